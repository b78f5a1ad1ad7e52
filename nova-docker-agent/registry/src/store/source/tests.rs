use super::*;

#[test]
fn why_glance_gives_no_bytes_is_told_apart() {
    let refused = |status| cloud::Error::Refused {
        service: "glance",
        method: "GET".to_owned(),
        path: "/v2/images/x/file".to_owned(),
        status,
        code: None,
        message: "no".to_owned(),
        request_id: None,
    };
    assert!(matches!(refused(404).into(), SourceError::NotFound(_)));
    assert!(matches!(refused(403).into(), SourceError::Forbidden(_)));
    assert!(SourceError::from(refused(503)).is_temporary());
}
