use super::*;

fn repository(name: &str, actions: &[Action]) -> Scope {
    Scope::Repository(name.parse().unwrap(), actions.to_vec())
}

#[test]
fn scopes_of_one_repository_are_put_together() {
    let asked = ["repository:demo/a/b:pull repository:demo/c:pull,push", "repository:demo/a/b:delete,pull"];
    let expected =
        [repository("demo/a/b", &[Action::Pull, Action::Delete]), repository("demo/c", &[Action::Pull, Action::Push])];
    assert_eq!(Scope::all(asked), expected);
    assert_eq!(
        Scope::all(["repository:demo/a:*"]),
        [repository("demo/a", &[Action::Pull, Action::Push, Action::Delete])]
    );
    assert_eq!(Scope::all(["registry:catalog:*"]), [Scope::Catalog]);
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
        assert_eq!(Scope::all([scope]), [], "{scope}");
    }
}

#[test]
fn a_request_has_only_so_many_scopes() {
    let scopes: Vec<String> = (0..100).map(|n| format!("repository:demo/a{n}:pull")).collect();
    assert_eq!(Scope::all(scopes.iter().map(String::as_str)).len(), MAX_SCOPES);
}
