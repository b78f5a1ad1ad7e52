use super::*;

#[test]
fn a_name_has_a_project_and_a_repository() {
    let name: Name = "demo/web/front-end".parse().unwrap();
    assert_eq!((name.project(), name.repository()), ("demo", "web/front-end"));
    assert_eq!(name.glance_name(&"v1".parse().unwrap()), "web/front-end:v1");
    assert_eq!(name.to_string(), "demo/web/front-end");
}

#[test]
fn a_repository_may_be_named_after_an_image() {
    let id = |name: &str| name.parse::<Name>().unwrap().image_id().map(|id| id.to_string());
    let image = "6e0b6f8e-3b1f-4f0a-9d57-0c2a8a4f2f11";
    assert_eq!(id(&format!("demo/{image}")).as_deref(), Some(image));
    for name in ["demo/web".to_owned(), format!("demo/{}", image.replace('-', "")), format!("demo/web/{image}")] {
        assert_eq!(id(&name), None, "{name}");
    }
}

#[test]
fn what_the_specification_does_not_allow_is_no_name() {
    for text in ["p/a", "p/a.b", "p/a__b", "p/a---b", "0/1", "p/a/b/c/d"] {
        assert!(text.parse::<Name>().is_ok(), "{text}");
    }
    for text in
        ["p/A", "p/", "/a", "p//a", "p/..", "p/../q", "p/a.", "p/.a", "p/a..b", "p/a___b", "p/a._b", "p/ä", "p/a b", ""]
    {
        assert_eq!(text.parse::<Name>(), Err(InvalidName::Grammar), "{text}");
    }
    assert_eq!("alone".parse::<Name>(), Err(InvalidName::NoProject));
    assert_eq!(format!("p/{}", "a".repeat(254)).parse::<Name>(), Err(InvalidName::TooLong));
}

#[test]
fn a_tag_is_a_word() {
    for text in ["latest", "V1.2-rc_3", "_", &"a".repeat(128)] {
        assert!(text.parse::<Tag>().is_ok(), "{text}");
    }
    for text in ["", ".a", "-a", "a/b", "a:b", "a b", &"a".repeat(129)] {
        assert!(text.parse::<Tag>().is_err(), "{text}");
    }
}

#[test]
fn an_image_in_glance_is_addressed_by_its_name() {
    let of = |name| of_glance(name).map(|(repository, tag)| (repository, tag.to_string()));
    assert_eq!(of("tiny"), Some(("tiny".into(), "latest".into())));
    assert_eq!(of("web/a:v1"), Some(("web/a".into(), "v1".into())));
    for none in ["Ubuntu 24.04", "a:b c", "", ":v1", "a@sha256:00"] {
        assert_eq!(of(none), None, "{none}");
    }
}
