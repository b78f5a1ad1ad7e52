use super::*;

#[tokio::test]
async fn a_read_that_gives_nothing_any_more_breaks_off() {
    let first = futures::stream::iter([Ok(Bytes::from_static(b"first"))]);
    let stuck = first.chain(futures::stream::pending()).boxed();
    let chunks: Vec<_> = impatient(stuck, Duration::from_millis(20)).collect().await;
    assert_eq!(chunks.len(), 2);
    assert_eq!(chunks[0].as_ref().unwrap(), "first");
    assert!(chunks[1].as_ref().unwrap_err().is_temporary());
}
