use super::*;

fn read(json: &str) -> Configuration {
    serde_json::from_str(json).unwrap()
}

#[test]
fn what_docker_takes_is_taken() {
    for json in [
        r#"{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["a"]}}"#,
        r#"{"OS": "linux", "Architecture": "amd64", "RootFS": {"Type": null, "Diff_IDs": ["a"]}}"#,
        r#"{"os": "darwin", "os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["b"], "diff_ids": ["a"]},
            "config": {"Entrypoint": "/init", "Cmd": "", "Shell": null, "Env": null}, "history": 7, "x": [{}]}"#,
    ] {
        let found = read(json);
        assert_eq!(found.platform.to_string(), "linux/amd64", "{json}");
        assert_eq!(found.diff_ids, ["a"], "{json}");
    }
}

#[test]
fn what_is_null_or_absent_is_empty() {
    for json in [
        "{}",
        r#"{"os": null, "architecture": null, "variant": null, "rootfs": null, "config": null}"#,
        r#"{"rootfs": {"diff_ids": null}}"#,
    ] {
        let found = read(json);
        assert_eq!((found.platform, found.diff_ids.len()), (Platform::default(), 0), "{json}");
    }
}

#[test]
fn a_value_of_another_kind_is_refused() {
    for json in ["[]", r#"{"os": 7}"#, r#"{"rootfs": []}"#, r#"{"rootfs": {"diff_ids": "a"}}"#] {
        assert!(serde_json::from_str::<Configuration>(json).is_err(), "{json}");
    }
}
