use super::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_digest_is_written_and_read_in_the_same_form() {
    assert_eq!(Digest::of(b"").to_string(), EMPTY);
    assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    let long = Algorithm::Sha512.digest(b"");
    assert!(long.to_string().starts_with("sha512:cf83e1357eefb8bd"), "{long}");
    assert_eq!(long.to_string().parse::<Digest>().unwrap(), long);
}

#[test]
fn only_the_canonical_form_is_a_digest() {
    let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
    let other = EMPTY.replace("sha256", "sha512");
    for text in
        ["", "sha256:", "sha512:00", &EMPTY[7..], &EMPTY[..70], &upper, &other, "sha256:../../etc/passwd", "md5:00"]
    {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
}
