use super::*;

#[test]
fn what_was_sealed_opens_with_the_same_key_for_the_same_purpose_only() {
    let key = Key::of(rand::random());
    let text = key.seal("a", b"content").unwrap();
    assert_eq!(key.open("a", &text).unwrap(), b"content");
    assert!(key.open("b", &text).is_none());
    assert!(Key::of(rand::random()).open("a", &text).is_none());
    assert_ne!(key.seal("a", b"content").unwrap(), text);
}

#[test]
fn no_changed_text_opens() {
    let key = Key::of(rand::random());
    let text = key.seal("a", b"content").unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(key.open("a", &URL_SAFE_NO_PAD.encode(changed)).is_none(), "{at}");
    }
    for text in ["", "AQ", "***", &text[..20]] {
        assert!(key.open("a", text).is_none(), "{text}");
    }
}
