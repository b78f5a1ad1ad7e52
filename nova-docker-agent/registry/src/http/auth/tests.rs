use super::*;

fn with(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

fn basic(text: &str) -> HeaderMap {
    with(&format!("Basic {}", STANDARD.encode(text)))
}

#[test]
fn only_the_right_name_with_the_right_secret_is_admitted() {
    let secret = Secret::generate();
    let value = secret.value();
    let value = value.expose_secret();
    assert!(secret.admits(&basic(&format!("{USERNAME}:{value}"))));
    for wrong in [format!("{USERNAME}:{value}0"), format!("{USERNAME}:"), format!("other:{value}"), value.to_owned()] {
        assert!(!secret.admits(&basic(&wrong)), "{wrong}");
    }
    assert!(!secret.admits(&with(&format!("Bearer {value}"))));
    assert!(!secret.admits(&with("Basic ***")));
    assert!(!secret.admits(&HeaderMap::new()));
}

#[test]
fn each_process_has_another_secret() {
    assert_ne!(Secret::generate().value().expose_secret(), Secret::generate().value().expose_secret());
}
