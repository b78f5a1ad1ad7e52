use super::*;

#[test]
fn one_range_of_bytes_is_understood() {
    for (header, expected) in [
        ("bytes=0-0", Wanted::Part(0..1)),
        ("bytes=90-", Wanted::Part(90..100)),
        ("bytes=90-1000", Wanted::Part(90..100)),
        ("bytes=-10", Wanted::Part(90..100)),
        ("bytes=-1000", Wanted::Part(0..100)),
        ("bytes=100-", Wanted::Unsatisfiable),
        ("bytes=-0", Wanted::Unsatisfiable),
        ("bytes=5-18446744073709551615", Wanted::Part(5..100)),
    ] {
        assert_eq!(Wanted::of(Some(header), 100), expected, "{header}");
    }
}

#[test]
fn what_is_not_one_range_of_bytes_means_everything() {
    for header in ["bytes=9-3", "bytes=0-1,3-4", "bytes=a-b", "bytes=-", "lines=0-1", "bytes 0-1", ""] {
        assert_eq!(Wanted::of(Some(header), 100), Wanted::All, "{header}");
    }
    assert_eq!(Wanted::of(None, 100), Wanted::All);
}

#[test]
fn no_range_of_an_empty_blob_can_be_satisfied() {
    assert_eq!(Wanted::of(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
}
