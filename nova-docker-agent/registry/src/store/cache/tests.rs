use super::*;

fn keep(cache: &Arc<Cache>, content: &[u8]) -> Digest {
    let mut partial = cache.begin(content.len() as u64).unwrap();
    partial.write(content).unwrap();
    let digest = Digest::of(content);
    partial.store(digest).unwrap();
    digest
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn a_blob_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let digest = keep(&Cache::open(directory.path(), 1000).unwrap(), b"layer");
    let cache = Cache::open(directory.path(), 1000).unwrap();
    assert_eq!(cache.total(), 5);
    assert_eq!(cache.get(&digest).unwrap().read(1..5).await.unwrap(), "ayer");
}

#[test]
fn blobs_of_an_earlier_format_are_removed_and_are_not_had() {
    let directory = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"layer");
    let old = directory.path().join("blobs").join(digest.path());
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    fs::write(&old, b"layer").unwrap();
    let cache = Cache::open(directory.path(), 1000).unwrap();
    assert!(cache.get(&digest).is_none() && cache.total() == 0);
    assert!(!directory.path().join("blobs").exists());
}

#[test]
fn the_blob_that_was_not_used_for_longest_is_evicted() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 250).unwrap();
    let old = keep(&cache, &[1; 100]);
    let new = keep(&cache, &[2; 100]);
    assert!(cache.get(&old).is_some());
    keep(&cache, &[3; 100]);
    assert!(cache.get(&old).is_some());
    assert!(cache.get(&new).is_none());
    assert_eq!((cache.total(), cache.evictions()), (200, 1));
}

#[test]
fn a_pinned_blob_is_not_evicted_until_its_last_pin_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 0).unwrap();
    let digest = Digest::of(&[1; 100]);
    let first = cache.pin([digest]);
    let second = cache.pin([digest]);
    keep(&cache, &[1; 100]);
    drop(first);
    assert!(cache.get(&digest).is_some());
    drop(second);
    assert!(cache.get(&digest).is_none());
    assert_eq!(files(&directory.path().join("blobs-2/sha256")), 0);
}

#[test]
fn what_is_pinned_is_not_among_what_an_eviction_looks_at() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1000).unwrap();
    let evictable = |expected: u64| {
        let state = cache.state();
        assert_eq!((state.order.len() as u64 * 100, state.evictable), (expected, expected));
    };
    let digests: Vec<Digest> = (0..9).map(|seed| keep(&cache, &[seed; 100])).collect();
    let pins = cache.pin(digests[..8].iter().copied());
    // Neither a use, nor a look at the disk, nor a second pin brings them back.
    assert!(cache.get(&digests[0]).is_some());
    cache.state().look_after = None;
    cache.look().unwrap();
    drop(cache.pin([digests[0]]));
    evictable(100);
    assert!(cache.evict_one() && cache.get(&digests[8]).is_none());
    assert!(!cache.evict_one());
    drop(pins);
    evictable(800);
    assert!(cache.evict_one() && cache.get(&digests[1]).is_none());
    assert_eq!((cache.total(), files(&cache.partial)), (700, 1), "its own lock");
}

#[test]
fn what_is_on_its_way_out_is_waited_for_before_there_is_no_room_and_before_anything_else_goes() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1000).unwrap();
    let kept = keep(&cache, &[1; 100]);
    cache.state().leaving = 500;
    let (measured, was_measured) = std::sync::mpsc::channel();
    let measure = || {
        let available = if cache.state().leaving > 0 { 100 } else { 600 };
        measured.send(()).ok();
        Ok::<u64, Error>(available)
    };
    assert_eq!(cache.free(|| 701, measure).unwrap(), 100, "all that may go is too little");
    assert!(cache.get(&kept).is_some());
    was_measured.recv().unwrap();
    let remover = cache.clone();
    let removing = std::thread::spawn(move || {
        was_measured.recv().unwrap();
        remover.state().leaving = 0;
        remover.gone.notify_all();
    });
    assert_eq!(cache.free(|| 600, measure).unwrap(), 600);
    removing.join().unwrap();
    assert!(cache.get(&kept).is_some());
    assert!(cache.evict_one());
    assert_eq!((cache.may_go(), cache.state().leaving), (0, 0));
}

#[test]
fn what_is_read_slowly_is_no_room_and_keeps_nothing_else_out() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 250).unwrap();
    let slow = keep(&cache, &[1; 100]);
    let readers = [(); 2].map(|()| cache.read(slow));
    assert!(cache.get(&slow).is_some() && cache.may_go() == 0 && !cache.evict_one());
    let others = [2, 3].map(|seed| keep(&cache, &[seed; 100]));
    assert!(!cache.has(&slow) && others.iter().all(|digest| cache.has(digest)));
    // It has come again.
    keep(&cache, &[1; 100]);
    assert_eq!((cache.may_go(), cache.total()), (100, 200));
    drop(readers);
    assert_eq!((cache.may_go(), cache.state().readers.len()), (200, 0));
}

#[test]
fn blobs_have_a_bound_in_number_too() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1000).unwrap();
    cache.state().most = 2;
    let digests = [1, 2, 3].map(|seed| keep(&cache, &[seed; 10]));
    assert_eq!(digests.map(|digest| cache.get(&digest).is_some()), [false, true, true]);
}

#[test]
fn what_a_dead_process_left_half_written_is_removed_and_what_a_living_one_writes_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let partials = directory.path().join("partial");
    let living = Cache::open(directory.path(), 1000).unwrap();
    let half = living.begin(10).unwrap();
    fs::create_dir(partials.join("dead")).unwrap();
    fs::write(partials.join("dead/lock"), b"").unwrap();
    fs::write(partials.join("dead/half"), b"half").unwrap();
    let _second = Cache::open(directory.path(), 1000).unwrap();
    assert!(!partials.join("dead").exists());
    assert!(half.blob.path.exists());
    let path = half.blob.path.clone();
    drop(half);
    assert!(!path.exists());
}

#[test]
fn a_blob_that_another_process_stored_or_removed_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let one = Cache::open(directory.path(), 1000).unwrap();
    let other = Cache::open(directory.path(), 1000).unwrap();
    let digest = keep(&one, b"layer");
    assert!(other.get(&digest).is_some());
    fs::remove_file(one.path(&digest)).unwrap();
    assert!(other.get(&digest).is_none());
    assert_eq!(other.total(), 0);
}

#[test]
fn what_is_stored_while_the_directory_is_read_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1000).unwrap();
    let removed = keep(&cache, &[1; 100]);
    keep(&cache, &[2; 100]);
    let found = scan(&cache.blobs).unwrap();
    let stored = keep(&cache, &[3; 100]);
    fs::remove_file(cache.path(&removed)).unwrap();
    cache.take(&found);
    assert_eq!((cache.total(), cache.has(&stored)), (300, true), "removed by another process: seen the next time");
    cache.state().look_after = None;
    cache.look().unwrap();
    assert_eq!((cache.total(), cache.has(&removed)), (200, false));
}

#[test]
fn processes_that_share_a_cache_keep_it_within_their_bound_together() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Cache::open(directory.path(), 250).unwrap());
    let old = keep(&one, &[1; 100]);
    let used = keep(&one, &[2; 100]);
    assert!(other.get(&old).is_some() && one.get(&used).is_some());
    // As after ten times as long as it took to look.
    other.state().look_after = None;
    // It has met only one of them, and yet it is the one that nobody has used for longest that goes.
    let new = keep(&other, &[3; 100]);
    assert!(other.get(&old).is_none() && other.get(&used).is_some() && one.get(&new).is_some());
    keep(&one, &[4; 200]);
    assert_eq!(files(&directory.path().join("blobs-2/sha256")), 1);
}

#[test]
fn a_blob_whose_size_changed_on_the_disk_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1000).unwrap();
    let digest = keep(&cache, b"layer");
    fs::write(cache.path(&digest), b"lay").unwrap();
    assert!(cache.get(&digest).is_none());
}

#[test]
fn what_cannot_fit_on_the_disk_is_refused_at_once_and_costs_no_other_blob() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), u64::MAX).unwrap();
    let kept = keep(&cache, &[1; 100]);
    let error = cache.begin(1 << 60).err().unwrap().of("x");
    assert!(matches!(error, Error::NoSpace { needed, .. } if needed == 1 << 60), "{error}");
    assert!(cache.get(&kept).is_some());
}

#[test]
fn what_is_larger_than_the_cache_is_served_as_long_as_it_is_pinned_and_costs_no_other_blob() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 250).unwrap();
    let kept = [1, 2].map(|seed| keep(&cache, &[seed; 100]));
    let pin = cache.pin([Digest::of(&[3; 300]), kept[0], kept[1]]);
    let large = keep(&cache, &[3; 300]);
    assert!(cache.get(&large).is_some());
    drop(pin);
    assert!(cache.get(&large).is_none() && kept.iter().all(|digest| cache.get(digest).is_some()));
}

#[tokio::test]
async fn a_file_that_is_adopted_is_a_blob_and_makes_room_for_itself() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("cache"), 250).unwrap();
    let old = [1, 2].map(|seed| keep(&cache, &[seed; 100]));
    let (file, digest) = (directory.path().join("file"), Digest::of(&[3; 100]));
    for _ in 0..2 {
        fs::write(&file, [3; 100]).unwrap();
        assert!(cache.adopt(digest, &file).unwrap());
    }
    assert_eq!(cache.get(&digest).unwrap().read(0..100).await.unwrap(), [3; 100].as_slice());
    assert!(cache.get(&old[0]).is_none() && cache.get(&old[1]).is_some());
    assert_eq!(cache.total(), 200);
}

#[test]
fn a_file_that_is_larger_than_the_cache_or_is_gone_is_not_adopted_and_costs_no_other_blob() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("cache"), 250).unwrap();
    let kept = keep(&cache, &[1; 100]);
    let file = directory.path().join("file");
    assert!(!cache.adopt(Digest::of(&[2; 300]), &file).unwrap());
    fs::write(&file, [2; 300]).unwrap();
    assert!(!cache.adopt(Digest::of(&[2; 300]), &file).unwrap());
    assert!(file.exists() && cache.get(&kept).is_some());
}
