use serde_json::json;

use super::*;

fn of(config: Value) -> Option<Value> {
    dropped(config.to_string().as_bytes()).unwrap().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn volumes_become_a_label_and_all_else_stays() {
    let config =
        json!({"os": "linux", "config": {"Cmd": ["a"], "Labels": {"mine": "1"}, "Volumes": {"/b": {}, "/a": {}}}});
    let found = of(config).unwrap();
    let label = found["config"]["Labels"][LABEL].as_str().unwrap();
    assert_eq!(paths(label), ["/a", "/b"]);
    let expected = json!({"os": "linux", "config": {"Cmd": ["a"], "Labels": {"mine": "1", LABEL: label}}});
    assert_eq!(found, expected);
}

#[test]
fn an_image_without_volumes_or_that_docker_will_not_take_stays_what_it_is() {
    for config in [
        json!({"config": {"Volumes": null}}),
        json!({"config": {"Volumes": {}}}),
        json!({"config": {"Volumes": ["/a"]}}),
        json!({"config": null}),
        json!({"Volumes": {"/a": {}}}),
    ] {
        assert_eq!(of(config.clone()), None, "{config}");
    }
    // What cannot be written anew is served as it is where it has no volumes.
    assert_eq!(dropped(br#"{"config": {"Volumes": {}, "x": 1e999}, "y": "\ud800"}"#), Ok(None));
}

#[test]
fn volumes_that_only_docker_would_see_are_refused() {
    let deep = format!(r#"{{"config": {{"Volumes": {{"/a": {{}}}}}}, "x": {}{}}}"#, "[".repeat(200), "]".repeat(200));
    let long = format!(r#"{{"config": {{"Volumes": {{"/a": {{}}}}}}, "x": "{}"}}"#, "x".repeat(MOST_BYTES));
    for text in [
        r#"{"config": {"Volumes": {"/a": {}}}, "config": {"Cmd": ["x"]}}"#,
        r#"{"config": {"Volumes": {"/a": {}}}, "Config": null}"#,
        r#"{"config": {"Volumes": {"/a": {}}, "VOLUMES": {}}}"#,
        r#"{"config": {"Volumes": {"/a": {}}}, "x": 1e999}"#,
        r#"{"config": {"Volumes": {"/a": {}}}, "x": "\ud800"}"#,
        &deep,
        &long,
        "{",
    ] {
        assert!(dropped(text.as_bytes()).is_err(), "{}", &text[..text.len().min(80)]);
    }
}

#[test]
fn no_way_to_write_the_key_leaves_a_volume() {
    for text in
        [r#"{"CONFIG": {"volumeS": {"/a": {}}, "lABELS": null}}"#, r#"{"config": {"Volume\u017f": {"/a": {}}}}"#]
    {
        let found = String::from_utf8(dropped(text.as_bytes()).unwrap().unwrap().to_vec()).unwrap();
        assert!(!folded(&found).contains("\"volumes\":"), "{found}");
        assert!(found.contains(LABEL), "{found}");
    }
}

#[test]
fn many_volumes_and_a_label_that_is_none_are_bounded() {
    let volumes: Map<String, Value> = (0..1000).map(|number| (format!("/{number}"), json!({}))).collect();
    let found = of(json!({"config": {"Volumes": volumes}})).unwrap();
    assert_eq!(paths(found["config"]["Labels"][LABEL].as_str().unwrap()).len(), MOST);
    assert!(paths("nonsense").is_empty() && paths("{}").is_empty() && paths("[1]").is_empty());
}
