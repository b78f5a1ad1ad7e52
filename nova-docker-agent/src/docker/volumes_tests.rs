use super::*;
use crate::guest::configuration::Sources;
use crate::guest::{Configuration, Guest};

fn guest(project_id: &str, volumes: &[(&str, &str)]) -> Guest {
    let metadata = volumes.iter().map(|(name, place)| (format!("docker:volume:{name}"), (*place).to_owned())).collect();
    Guest {
        uuid: Uuid::nil(),
        name: "web".to_owned(),
        hostname: "web".to_owned(),
        project_id: project_id.to_owned(),
        user_id: "u".to_owned(),
        vcpus: 1,
        memory_mb: 64,
        root_gb: 1,
        swap_mb: 0,
        configuration: Configuration::parse(&Sources { metadata, memory_mb: 64, ..Sources::default() }).unwrap(),
        key: None,
        rescues: false,
        inside: crate::guest::Inside::default(),
        links: crate::guest::Peers::default(),
        created_by: "c".to_owned(),
    }
}

fn found(name: &str, labels: &[(&str, &str)]) -> DockerVolume {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    DockerVolume { name: name.to_owned(), driver: DRIVER.to_owned(), labels, ..Default::default() }
}

#[test]
fn a_mount_names_a_volume_of_the_guests_project_and_nothing_of_the_host() {
    let made = mounts(&guest("0123abcd", &[("data", "/var/lib/data"), ("x", "/x:ro")]));
    let sources: Vec<&str> = made.iter().map(|mount| mount.source.as_deref().unwrap()).collect();
    assert_eq!(sources, ["nova-volume.0123abcd.data", "nova-volume.0123abcd.x"]);
    assert_eq!((made[0].read_only, made[1].read_only), (Some(false), Some(true)));
    for mount in made {
        assert_eq!(mount.typ, Some(MountType::VOLUME));
        let options = mount.volume_options.unwrap();
        assert_eq!((options.driver_config, options.subpath, options.no_copy), (None, None, None));
        assert_eq!(options.labels.unwrap()[labels::VOLUME_PROJECT], "0123abcd");
    }
}

#[test]
fn a_project_id_that_could_be_read_as_something_else_has_no_volumes() {
    let long = "a".repeat(65);
    for id in ["", ".", "..", "a.b", "a/b", "../x", "a b", "a:b", "a\n", "a\0", "ä", "/", &long] {
        assert!(check(&guest(id, &[("data", "/data")])).is_err(), "{id:?}");
        assert!(check(&guest(id, &[])).is_ok(), "{id:?}");
    }
    assert!(check(&guest("7d0f-A_b", &[("data", "/data")])).is_ok());
}

#[test]
fn no_two_projects_have_a_volume_in_common_whatever_their_names_are() {
    let parts = ["a", "a.b", "b", "a_b", "a-b", "b.c", "c"];
    let projects = parts.iter().filter(|part| is_project(part));
    let names: Vec<String> = projects.flat_map(|project| parts.map(|name| docker_name(project, name))).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}

#[test]
fn only_a_plain_volume_with_its_own_labels_is_ours() {
    let labels = [(labels::VOLUME_PROJECT, "p"), (labels::VOLUME_NAME, "n")];
    assert!(check_found(&found("nova-volume.p.n", &labels)).is_ok());
    assert!(check_found(&found("nova-volume.p.other", &labels)).is_err());
    assert!(check_found(&found("nova-volume.p.n", &labels[..1])).is_err());
    assert!(check_found(&found("nova-volume.p.n", &[])).is_err());
    let elsewhere = [("device".to_owned(), "/etc".to_owned())].into();
    assert!(check_found(&DockerVolume { options: elsewhere, ..found("nova-volume.p.n", &labels) }).is_err());
    let remote = DockerVolume { driver: "nfs".to_owned(), ..found("nova-volume.p.n", &labels) };
    assert!(check_found(&remote).is_err());
}
