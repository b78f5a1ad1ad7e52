//! Volumes of an image's configuration, which servers have not: what is below their paths is a part of a server's own files, and so of
//! its disk, its snapshots and its image on the shelf. The paths are kept in a label.
//!
//! Go's readers take keys in any case, and so does this. Where the configuration cannot be written anew, it stays what it is, and Docker
//! makes volumes.

use bytes::Bytes;
use serde_json::{Map, Value};

/// The label: a JSON list of paths.
pub const LABEL: &str = "org.openstack.nova.image-volumes";
/// Paths that are kept. Images have a handful.
const MOST: usize = 100;

/// The configuration without volumes; none where it has none.
pub fn dropped(config: &[u8]) -> Option<Bytes> {
    let mut image: Value = serde_json::from_slice(config).ok()?;
    let mut paths = Vec::new();
    for config in values(image.as_object_mut()?, "config") {
        let Some(config) = config.as_object_mut() else { continue };
        let volumes = values(config, "volumes").filter_map(|volumes| volumes.as_object().cloned());
        paths.extend(volumes.flat_map(|volumes| volumes.into_iter().map(|(path, _)| path)));
        config.retain(|key, _| folded(key) != "volumes");
    }
    paths.truncate(MOST);
    if paths.is_empty() {
        return None;
    }
    // The last one wins, for Go.
    let config = values(image.as_object_mut()?, "config").filter_map(Value::as_object_mut).last()?;
    let label = Value::from(Value::from(paths).to_string());
    match values(config, "labels").filter_map(Value::as_object_mut).last() {
        Some(labels) => drop(labels.insert(LABEL.to_owned(), label)),
        None => {
            config.retain(|key, _| folded(key) != "labels");
            config.insert("Labels".to_owned(), Value::Object(Map::from_iter([(LABEL.to_owned(), label)])));
        }
    }
    serde_json::to_vec(&image).ok().map(Bytes::from)
}

/// The paths in a [`LABEL`]. What an image's own label of that name says is no more than its volumes could.
pub fn paths(label: &str) -> Vec<String> {
    let mut paths: Vec<String> = serde_json::from_str(label).unwrap_or_default();
    paths.truncate(MOST);
    paths
}

/// The values of a key, whatever its case.
fn values<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Value> {
    map.iter_mut().filter(move |(name, _)| folded(name) == key).map(|(_, value)| value)
}

/// As Go folds it: characters that are not ASCII as well.
fn folded(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(config: Value) -> Option<Value> {
        dropped(config.to_string().as_bytes()).map(|bytes| serde_json::from_slice(&bytes).unwrap())
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
            json!([]),
        ] {
            assert_eq!(of(config.clone()), None, "{config}");
        }
        assert_eq!(dropped(b"{"), None);
    }

    #[test]
    fn no_way_to_write_the_key_leaves_a_volume() {
        for text in [
            r#"{"CONFIG": {"volumeS": {"/a": {}}, "lABELS": null}}"#,
            r#"{"config": {"Volume\u017f": {"/a": {}}}}"#,
            r#"{"Config": {"Volumes": {"/a": {}}}, "config": {"VOLUMES": {"/a": {}}}}"#,
        ] {
            let found = String::from_utf8(dropped(text.as_bytes()).unwrap().to_vec()).unwrap();
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
}
