//! `meta-data.json`, in the form of EC2, for what is older than OpenStack's own.

use serde_json::{Value, json};

use super::{Sources, bytes, hostname};
use crate::compute::instance::spawn::ROOT_DEVICE;
use crate::guest::ConfigDrive;

const VERSIONS: [&str; 9] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
];

pub(super) fn add(drive: &mut ConfigDrive, sources: &Sources<'_>, user_data: Option<&[u8]>) -> Result<(), String> {
    let newest = VERSIONS[VERSIONS.len() - 1];
    for (name, version) in VERSIONS.into_iter().map(|version| (version, version)).chain([("latest", newest)]) {
        if sources.config.skipped_versions.iter().any(|skipped| skipped == name) {
            continue;
        }
        if let Some(user_data) = user_data {
            drive.add(format!("ec2/{name}/user-data"), user_data)?;
        }
        drive.add(format!("ec2/{name}/meta-data.json"), bytes(&of(sources, version)))?;
    }
    Ok(())
}

/// The names of versions are dates: they compare as texts.
fn of(sources: &Sources<'_>, version: &str) -> Value {
    let instance = sources.instance;
    let ids = instance.object("ec2_ids");
    let id = |name: &str| ids.as_ref().and_then(|ids| ids.str(name)).map(str::to_owned);
    let hostname = hostname(sources);
    let ips = || sources.network.0.iter().flat_map(|vif| &vif.network.subnets).flat_map(|subnet| &subnet.ips);
    let fixed = ips().find(|ip| ip.version == 4).map(|ip| ip.address.clone());
    let floating = ips().flat_map(|ip| &ip.floating_ips).next().map(|ip| ip.address.clone());
    let mut data = json!({
        "ami-id": id("ami_id"),
        "ami-launch-index": instance.int("launch_index"),
        // Nova's own word, which its metadata service answers too.
        "ami-manifest-path": "FIXME",
        "instance-id": id("instance_id"),
        "hostname": hostname,
        "local-ipv4": fixed,
        "reservation-id": instance.str("reservation_id"),
        "security-groups": sources.security_groups,
    });
    if instance.key_name().is_some() {
        data["public-keys"] = json!({"0": {"openssh-key": instance.key_data()}});
    }
    if version >= "2007-01-19" {
        data["local-hostname"] = hostname.as_str().into();
        data["public-hostname"] = hostname.into();
        data["public-ipv4"] = floating.unwrap_or_default().into();
    }
    if version >= "2007-08-29" {
        data["instance-type"] = json!(instance.flavor().and_then(|flavor| flavor.flavor_name().map(str::to_owned)));
    }
    if version >= "2007-12-15" {
        let root = ROOT_DEVICE;
        data["block-device-mapping"] = json!({"ami": root.trim_start_matches("/dev/"), "root": root});
        for name in ["kernel_id", "ramdisk_id"] {
            if let Some(id) = id(name) {
                data[name.replace('_', "-")] = id.into();
            }
        }
    }
    if version >= "2008-02-01" {
        data["placement"] = json!({"availability-zone": instance.availability_zone()});
    }
    if version >= "2008-09-01" {
        data["instance-action"] = "none".into();
    }
    data
}
