use super::*;

fn repositories(all: &[(&str, &[Action])]) -> Scopes {
    let all = all.iter().map(|(name, actions)| (name.parse().unwrap(), actions.iter().copied().collect()));
    Scopes { repositories: all.collect(), catalog: false }
}

#[test]
fn scopes_of_one_repository_are_put_together() {
    let asked = ["repository:demo/a/b:pull repository:demo/c:pull,push", "repository:demo/a/b:delete,pull"];
    let expected: [(&str, &[Action]); 2] =
        [("demo/a/b", &[Action::Pull, Action::Delete]), ("demo/c", &[Action::Pull, Action::Push])];
    assert_eq!(Scopes::of(asked), repositories(&expected));
    assert_eq!(Scopes::of(["repository:demo/a:*"]), repositories(&[("demo/a", &Action::ALL)]));
    assert_eq!(Scopes::of(["registry:catalog:*"]), Scopes { catalog: true, ..Scopes::default() });
}

#[test]
fn what_is_not_understood_grants_nothing() {
    for scope in [
        "",
        "repository",
        "repository:demo/a",
        "repository:demo/a:",
        "repository:demo/a:admin",
        "repository:demo/../a:pull",
        "repository:Demo/a:pull",
        "repository:alone:pull",
        "repository(plugin):demo/a:pull",
        "registry:catalog:pull",
        "registry:other:*",
        "user:demo/a:pull",
    ] {
        assert_eq!(Scopes::of([scope]), Scopes::default(), "{scope}");
    }
}

#[test]
fn a_request_has_only_so_many_scopes() {
    let scopes: Vec<String> = (0..100).map(|n| format!("repository:demo/a{n}:pull")).collect();
    assert_eq!(Scopes::of(scopes.iter().map(String::as_str)).repositories.len(), MAX_SCOPES);
}
