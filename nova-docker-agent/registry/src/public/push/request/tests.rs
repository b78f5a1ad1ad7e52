use super::*;

fn range(text: &str) -> Result<Option<RangeInclusive<u64>>, ()> {
    content_range(&HeaderMap::from_iter([(CONTENT_RANGE, text.parse().unwrap())]))
}

#[test]
fn a_chunks_range_is_read_in_the_specifications_form_and_in_https() {
    for text in ["5-9", "bytes 5-9/100", "bytes=5-9", "bytes 5-9/*", " 5-9 "] {
        assert_eq!(range(text), Ok(Some(5..=9)), "{text}");
    }
    assert_eq!(content_range(&HeaderMap::new()), Ok(None));
}

#[test]
fn what_is_no_range_of_a_chunk_is_not_ignored() {
    for text in ["9-5", "5-", "-5", "a-b", "5", "", "0-18446744073709551615", "bytes */100"] {
        assert_eq!(range(text), Err(()), "{text}");
    }
}

#[test]
fn content_is_named_by_one_digest_of_each_algorithm() {
    let names = [Digest::of(b"a"), crate::Algorithm::Sha512.digest(b"a")];
    let query: String = (0..100).map(|_| format!("digest={}&digest={}&", names[0], names[1])).collect();
    assert_eq!(digests(&query).unwrap(), names);
    let contradiction = format!("digest={}&digest={}", names[0], Digest::of(b"b"));
    assert_eq!(digests(&contradiction).unwrap_err().code, Code::DigestInvalid);
}
