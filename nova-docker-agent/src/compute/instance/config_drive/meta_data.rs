//! `meta_data.json`: who the instance is.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{Sources, Version, content_path, hostname};
use crate::compute::instance::devices::{TaggedInterface, tagged_interfaces};
use crate::objects::{Instance, Object};

const SEED_BYTES: usize = 512;

pub(super) fn of(sources: &Sources<'_>, version: Version) -> Value {
    let instance = sources.instance;
    let mut data = Map::new();
    let mut set = |name: &str, value: Value| {
        data.insert(name.to_owned(), value);
    };
    set("uuid", instance.uuid().into());
    let metadata = instance.metadata();
    if !metadata.is_empty() {
        set("meta", json!(metadata));
    }
    let files = sources.inside.files.iter().enumerate();
    let files: Vec<Value> =
        files.map(|(number, file)| json!({"path": file.asked_path(), "content_path": content_path(number)})).collect();
    if !files.is_empty() {
        set("files", files.into());
    }
    if let Some(password) = &sources.inside.password {
        set("admin_pass", password.expose().into());
    }
    if let Some((name, data, kind)) = key(instance) {
        set("keys", json!([{"name": name, "type": kind, "data": data}]));
        set("public_keys", json!({ name: data }));
    }
    set("hostname", hostname(sources).into());
    set("name", json!(instance.display_name()));
    set("launch_index", json!(instance.int("launch_index")));
    set("availability_zone", json!(instance.availability_zone()));
    if version >= Version::Grizzly {
        let seed: [u8; SEED_BYTES] = rand::random();
        set("random_seed", STANDARD.encode(seed).into());
    }
    if version >= Version::Liberty {
        set("project_id", json!(instance.project_id()));
    }
    if version >= Version::NewtonOne {
        let devices: Vec<Value> = tagged_interfaces(instance).iter().map(|device| shown(device, version)).collect();
        set("devices", devices.into());
    }
    if version >= Version::Victoria {
        set("dedicated_cpus", json!([]));
    }
    data.into()
}

fn shown(device: &TaggedInterface, version: Version) -> Value {
    let TaggedInterface { mac, tags } = device;
    let mut shown = json!({"type": "nic", "mac": mac, "bus": "none", "address": "none", "tags": tags});
    if version >= Version::Rocky {
        shown["vf_trusted"] = false.into();
    }
    shown
}

/// Name, data and type of the instance's key pair.
fn key(instance: &Instance) -> Option<(String, String, String)> {
    let name = instance.key_name()?;
    let pairs = instance.object("keypairs");
    let pair: Option<Object> = pairs.and_then(|pairs| pairs.objects().into_iter().next());
    let of_pair = |field: &str| pair.as_ref().and_then(|pair| pair.str(field)).map(str::to_owned);
    let data = of_pair("public_key").or_else(|| instance.key_data().map(str::to_owned))?;
    let kind = of_pair("type").unwrap_or_else(|| "ssh".to_owned());
    Some((of_pair("name").unwrap_or_else(|| name.to_owned()), data, kind))
}
