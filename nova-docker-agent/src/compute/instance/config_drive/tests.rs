use serde_json::json;

use super::*;
use crate::guest::{InjectedFile, Password};

fn instance() -> Instance {
    let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
    for (field, value) in [
        ("hostname", json!("web")),
        ("display_name", json!("web 1")),
        ("project_id", json!("p")),
        ("launch_index", json!(0)),
        ("metadata", json!({"role": "web"})),
        ("key_name", json!("mine")),
        ("key_data", json!("ssh-ed25519 AAAA")),
        ("user_data", json!("aGVs\nbG8=")),
    ] {
        instance.set(field, value);
    }
    let interface = crate::compute::instance::devices::TaggedInterface {
        mac: "fa:16:3e:00:00:01".into(),
        tags: vec!["lan".into()],
    };
    instance.set("device_metadata", crate::compute::instance::devices::device_metadata(&[interface]));
    instance
}

fn network(dhcp: bool) -> NetworkInfo {
    let fixed = |address: &str, version: u8| json!({"address": address, "type": "fixed", "version": version});
    serde_json::from_value(json!([{
        "id": "ed1b6eff-a11f-4712-9f82-433985507b9b", "address": "fa:16:3e:00:00:01", "type": "ovs", "devname": "taped1b6eff-a1",
        "network": {"id": "9e25f37b-91f4-4438-b681-7c14f776f1e8", "meta": {"mtu": 1450}, "subnets": [
            {"cidr": "10.77.0.0/24", "version": 4, "gateway": {"address": "10.77.0.1", "type": "gateway", "version": 4},
             "dns": [{"address": "192.0.2.53", "type": "dns", "version": 4}],
             "routes": [{"cidr": "172.16.0.0/12", "gateway": {"address": "10.77.0.9", "type": "gateway", "version": 4}}],
             "ips": [fixed("10.77.0.5", 4)], "meta": {"enable_dhcp": dhcp}},
            {"cidr": "fd00::/64", "version": 6, "gateway": {"address": null, "type": "gateway", "version": null},
             "ips": [fixed("fd00::5", 6)], "meta": {"enable_dhcp": true, "ipv6_address_mode": "slaac"}},
        ]},
    }]))
    .unwrap()
}

fn drive_of(network: &NetworkInfo, inside: &Inside, vendor_data: Option<Value>) -> ConfigDrive {
    let config =
        MetadataConfig { dhcp_domain: "novalocal".into(), skipped_versions: vec!["1.0".into()], ..Default::default() };
    let groups = vec!["default".to_owned()];
    let instance = instance();
    content(&Sources { instance: &instance, network, inside, security_groups: groups, vendor_data, config: &config })
        .unwrap()
}

fn read(drive: &ConfigDrive, path: &str) -> Option<Value> {
    let (_, content) = drive.files().find(|(found, _)| *found == path)?;
    Some(serde_json::from_slice(content).unwrap())
}

#[test]
fn the_newest_metadata_says_who_the_instance_is_with_its_files_and_password() {
    let inside = Inside {
        files: vec![InjectedFile::new("etc/motd", b"hi".to_vec()).unwrap()],
        password: Some(Password::new("secret")),
        ..Inside::default()
    };
    let drive = drive_of(&network(true), &inside, Some(json!({"a": 1})));
    let data = read(&drive, "openstack/latest/meta_data.json").unwrap();
    for (name, value) in [
        ("uuid", json!("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8")),
        ("hostname", json!("web.novalocal")),
        ("name", json!("web 1")),
        ("meta", json!({"role": "web"})),
        ("admin_pass", json!("secret")),
        ("public_keys", json!({"mine": "ssh-ed25519 AAAA"})),
        ("keys", json!([{"name": "mine", "type": "ssh", "data": "ssh-ed25519 AAAA"}])),
        ("files", json!([{"path": "etc/motd", "content_path": "/content/0000"}])),
        ("dedicated_cpus", json!([])),
    ] {
        assert_eq!(data[name], value, "{name}");
    }
    let device = json!({"type": "nic", "mac": "fa:16:3e:00:00:01", "bus": "none", "address": "none", "tags": ["lan"],
        "vf_trusted": false});
    assert_eq!(data["devices"], json!([device]));
    let files: Vec<(&str, &[u8])> = drive.files().collect();
    assert!(files.contains(&("openstack/content/0000", b"hi")));
    assert!(files.contains(&("openstack/latest/user_data", b"hello")));
    assert_eq!(read(&drive, "openstack/latest/vendor_data2.json"), Some(json!({"static": {"a": 1}})));
}

#[test]
fn an_old_version_says_what_its_release_said() {
    let drive = drive_of(&network(true), &Inside::default(), Some(json!({})));
    let data = read(&drive, "openstack/2012-08-10/meta_data.json").unwrap();
    assert!(data.get("random_seed").is_none() && data.get("devices").is_none() && data.get("admin_pass").is_none());
    let paths: Vec<&str> = drive.files().map(|(path, _)| path).collect();
    for (path, is_there) in [
        ("openstack/2012-08-10/vendor_data.json", false),
        ("openstack/2013-10-17/vendor_data.json", true),
        ("openstack/2013-10-17/network_data.json", false),
        ("openstack/2015-10-15/network_data.json", true),
        ("openstack/2016-06-30/vendor_data2.json", false),
        ("openstack/2016-10-06/vendor_data2.json", true),
        ("ec2/1.0/meta-data.json", false),
        ("ec2/2009-04-04/meta-data.json", true),
        ("ec2/latest/user-data", true),
    ] {
        assert_eq!(paths.contains(&path), is_there, "{path}");
    }
}

#[test]
fn addresses_that_no_dhcp_gives_are_told_with_their_routes() {
    let data = network_data::of(&network(false)).unwrap();
    let [v4, v6] = data["networks"].as_array().unwrap().as_slice() else { panic!("two networks: {data}") };
    assert_eq!(
        (&v4["type"], &v4["ip_address"], &v4["netmask"]),
        (&"ipv4".into(), &"10.77.0.5".into(), &"255.255.255.0".into())
    );
    let routes = json!([
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.77.0.1"},
        {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.77.0.9"},
    ]);
    assert_eq!(v4["routes"], routes);
    assert_eq!((&v6["type"], &v6["netmask"]), (&"ipv6_slaac".into(), &"ffff:ffff:ffff:ffff::".into()));
    assert_eq!((&data["links"][0]["type"], &data["links"][0]["mtu"]), (&"ovs".into(), &1450.into()));
    assert_eq!(data["services"], json!([{"type": "dns", "address": "192.0.2.53"}]));
    let by_dhcp = network_data::of(&network(true)).unwrap();
    assert_eq!(by_dhcp["networks"][0]["type"], "ipv4_dhcp");
    assert_eq!(network_data::of(&NetworkInfo::default()).unwrap(), json!({}));
}

#[test]
fn ec2s_form_has_groups_addresses_and_key() {
    let data = read(&drive_of(&network(true), &Inside::default(), None), "ec2/latest/meta-data.json").unwrap();
    assert_eq!((&data["local-ipv4"], &data["public-ipv4"]), (&"10.77.0.5".into(), &"".into()));
    assert_eq!((&data["security-groups"], &data["hostname"]), (&json!(["default"]), &"web.novalocal".into()));
    assert_eq!(data["public-keys"]["0"], json!({"openssh-key": "ssh-ed25519 AAAA"}));
    assert_eq!(data["block-device-mapping"], json!({"ami": "sda", "root": "/dev/sda"}));
}

#[test]
fn a_drive_is_wanted_by_the_user_the_image_or_at_a_launch_the_operator() {
    let wanted = |drive: &str, launched: Value, image: Value, forced: bool| {
        let mut instance = instance();
        instance.set("config_drive", drive);
        instance.set("launched_at", launched);
        is_wanted(&instance, &image, &MetadataConfig { force_config_drive: forced, ..Default::default() })
    };
    let plain = json!({"properties": {"img_config_drive": "optional"}});
    assert!(!wanted("", Value::Null, plain.clone(), false));
    assert!(wanted("True", Value::Null, plain.clone(), false));
    assert!(wanted("", Value::Null, json!({"properties": {"img_config_drive": "mandatory"}}), false));
    assert!(wanted("", Value::Null, plain.clone(), true));
    assert!(!wanted("", json!("2026-11-22T14:09:46Z"), plain, true));
}
