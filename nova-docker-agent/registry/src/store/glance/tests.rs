use super::*;

#[test]
fn a_refused_range_is_told_apart_from_a_bad_request() {
    let refused = |status| cloud::Error::Refused {
        service: "glance",
        method: "GET".to_owned(),
        path: "/v2/images/x/file".to_owned(),
        status,
        code: None,
        message: "no".to_owned(),
        request_id: None,
    };
    assert!(matches!(source_error(refused(400), true), SourceError::RangeUnsupported));
    assert!(matches!(source_error(refused(400), false), SourceError::Unavailable(_)));
    assert!(matches!(source_error(refused(404), true), SourceError::NotFound(_)));
}
