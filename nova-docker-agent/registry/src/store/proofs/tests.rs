use super::*;

fn circle(name: &str) -> Sharing {
    Sharing::Circle(name.into())
}

#[test]
fn a_proof_is_for_its_circle_and_lasts_as_long_as_the_blob() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1 << 20).unwrap();
    let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone"));
    let mut partial = cache.begin(4).unwrap();
    partial.write(b"kept").unwrap();
    partial.store(kept).unwrap();
    let proofs = Proofs::open(&cache);
    for digest in [kept, gone] {
        proofs.add(digest, &circle("../one"));
    }
    for proofs in [&proofs, &Proofs::open(&cache)] {
        assert!(proofs.has(&kept, &circle("../one")));
        assert!(!proofs.has(&kept, &circle("two")));
        assert!(proofs.has(&kept, &Sharing::Host));
    }
    assert!(!Proofs::open(&cache).has(&gone, &circle("../one")));
}
