//! Named volumes.

use super::super::*;
use super::{of_flavor, of_image, of_user, texts};

#[test]
fn a_name_of_a_volume_is_neither_a_path_nor_anything_else() {
    let long = "x".repeat(64);
    for name in ["", ".", "..", "a/b", "/a", "a b", "a:b", "-a", "_a", ".a", "a\n", "a\0", "a,b", "a=b", "é", &long] {
        let error = of_user([(&format!("docker:volume:{name}"), "/a")]).expect_err(name).to_string();
        assert!(error.contains("the name "), "{error}");
    }
    let longest = format!("docker:volume:{}", "x".repeat(63));
    assert_eq!(of_user([(&longest, "/a")]).unwrap().volumes.len(), 1);
}

#[test]
fn every_volume_has_a_path_of_its_own_when_all_is_read() {
    let error = of_user([("docker:volume:a", "/x"), ("docker:volume:b", "/x:ro")]).unwrap_err().to_string();
    assert!(error.starts_with("docker:volume:b: another volume, host_mount or tmpfs has its path"), "{error}");
    let error = of_user([("docker:volume:a", "/x"), ("docker:tmpfs", "/x:1m")]).unwrap_err().to_string();
    assert!(error.starts_with("docker:volume:a: another volume, host_mount or tmpfs has its path"), "{error}");
    // The user puts the image's volume elsewhere, and another one where it was.
    let sources = Sources {
        properties: texts([("docker_volume:a", "/x")]),
        metadata: texts([("docker:volume:a", "/y:ro"), ("docker:volume:b", "/x")]),
        memory_mb: 64,
        ..Sources::default()
    };
    let made = Configuration::parse(&sources).unwrap().volumes;
    assert_eq!((made["a"].path.as_str(), made["a"].read_only, made["b"].path.as_str()), ("/y", true, "/x"));
}

#[test]
fn only_the_user_decides_that_volumes_are_removed_and_only_by_a_clear_word() {
    for (text, removed) in [("true", true), ("Yes", true), ("1", true), ("false", false), ("", false), ("maybe", false)]
    {
        assert_eq!(volumes_are_removed(&texts([("docker:remove_volumes", text)])), removed, "{text}");
    }
    assert!(!volumes_are_removed(&texts([("remove_volumes", "true"), ("docker_remove_volumes", "true")])));
    let error = of_image([("docker_remove_volumes", "true")]).unwrap_err().to_string();
    assert!(error.contains("docker_remove_volumes: only server metadata can set it"), "{error}");
}

#[test]
fn a_flavor_bounds_how_many_volumes_a_server_names() {
    let two = [("docker:volume:a", "/a"), ("docker:volume:b", "/b")];
    for (limit, fits) in [("true", true), ("2", true), ("1", false), ("0", false), ("false", false), ("no", false)] {
        let sources =
            Sources { extra_specs: texts([("docker:volumes", limit)]), metadata: texts(two), ..Sources::default() };
        assert_eq!(Configuration::parse(&sources).is_ok(), fits, "{limit}");
    }
    for wrong in ["", "-1", "many", "1.5", "99999999999999999999999"] {
        assert!(of_flavor([("docker:volumes", wrong)]).is_err(), "{wrong}");
    }
    assert!(of_user([("docker:volumes", "9")]).unwrap_err().to_string().contains("only a flavor can set it"));
}
