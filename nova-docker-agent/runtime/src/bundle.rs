//! The OCI bundle of a container that is about to be created.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Where a rescue finds the file system of its instance.
const RESCUE: &str = "/rescue";

/// A bundle's `config.json`.
#[derive(Debug)]
pub struct Bundle {
    directory: PathBuf,
    config: Value,
}

impl Bundle {
    pub fn read(directory: &Path) -> Result<Self, String> {
        let file = directory.join("config.json");
        let failed = |verb: &str, error: &dyn std::fmt::Display| format!("cannot {verb} {}: {error}", file.display());
        let text = fs::read(&file).map_err(|error| failed("read", &error))?;
        let config: Value = serde_json::from_slice(&text).map_err(|error| failed("parse", &error))?;
        if !config.is_object() {
            return Err(failed("use", &"it is no JSON object"));
        }
        Ok(Self { directory: directory.to_owned(), config })
    }

    pub fn write(&self) -> Result<(), String> {
        let file = self.directory.join("config.json");
        let failed = |verb: &str, error: &dyn std::fmt::Display| format!("cannot {verb} {}: {error}", file.display());
        let text = serde_json::to_vec(&self.config).map_err(|error| failed("encode", &error))?;
        // A new file under the old name: a crash must not leave half a configuration.
        let fresh = self.directory.join("config.json.nova");
        fs::write(&fresh, text)
            .and_then(|()| fs::set_permissions(&fresh, fs::metadata(&file)?.permissions()))
            .and_then(|()| fs::rename(&fresh, &file))
            .map_err(|error| failed("replace", &error))
    }

    /// Where the container's file system is on the host.
    pub fn root(&self) -> Result<PathBuf, String> {
        let path = self.config.pointer("/root/path").and_then(Value::as_str);
        let path = path.ok_or_else(|| format!("{} has no root.path", self.directory.display()))?;
        Ok(self.directory.join(path))
    }

    /// Sets the path of the network namespace, and adds the namespace where it is absent.
    pub fn set_network_namespace(&mut self, path: &str) -> Result<(), String> {
        let linux = object(&mut self.config, "linux")?;
        let namespaces = array(linux, "namespaces")?;
        namespaces.retain(|namespace| namespace.get("type").and_then(Value::as_str) != Some("network"));
        namespaces.push(json!({"type": "network", "path": path}));
        Ok(())
    }

    /// Makes the root file system read-only to the container's processes.
    pub fn set_read_only(&mut self) -> Result<(), String> {
        let root = object(&mut self.config, "root")?;
        root["readonly"] = true.into();
        Ok(())
    }

    /// User and group that the container's process runs as.
    pub fn owner(&self) -> (u32, u32) {
        let id = |name: &str| {
            let id = self.config.pointer(&format!("/process/user/{name}")).and_then(Value::as_u64);
            id.and_then(|id| u32::try_from(id).ok()).unwrap_or_default()
        };
        (id("uid"), id("gid"))
    }

    /// Mounts a file of the host, read-only, over all that is mounted otherwise.
    pub fn mount_file(&mut self, source: &Path, destination: &str) -> Result<(), String> {
        let source = source.to_str().ok_or_else(|| format!("{} is not UTF-8", source.display()))?;
        let options = ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"];
        let mount = json!({"destination": destination, "type": "bind", "source": source, "options": options});
        array(&mut self.config, "mounts")?.push(mount);
        Ok(())
    }

    /// Mounts the file system of another container, before what else is mounted into it. Its device files and its programs of
    /// other users have no power there.
    pub fn mount_rescued(&mut self, root: &Path) -> Result<(), String> {
        let source = root.to_str().ok_or_else(|| format!("{} is not UTF-8", root.display()))?;
        let mounts = array(&mut self.config, "mounts")?;
        let is_inside = |mount: &Value| {
            mount.get("destination").and_then(Value::as_str).is_some_and(|path| path.starts_with("/rescue/"))
        };
        let at = mounts.iter().position(is_inside).unwrap_or(mounts.len());
        let options = ["bind", "rw", "nosuid", "nodev", "rprivate"];
        mounts.insert(at, json!({"destination": RESCUE, "type": "bind", "source": source, "options": options}));
        Ok(())
    }
}

fn object<'a>(of: &'a mut Value, name: &str) -> Result<&'a mut Value, String> {
    let of = of.as_object_mut().ok_or("config.json is no JSON object")?;
    let value = of.entry(name).or_insert_with(|| json!({}));
    if value.is_object() { Ok(value) } else { Err(format!("{name:?} of config.json is no JSON object")) }
}

fn array<'a>(of: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>, String> {
    let of = of.as_object_mut().ok_or("config.json is no JSON object")?;
    let value = of.entry(name).or_insert_with(|| json!([]));
    value.as_array_mut().ok_or_else(|| format!("{name:?} of config.json is no JSON array"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(config: Value) -> Bundle {
        Bundle { directory: "/bundle".into(), config }
    }

    #[test]
    fn the_namespace_is_replaced_or_added_and_the_rest_stays() {
        let mut with =
            bundle(json!({"root": {}, "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}], "seccomp": 1}}));
        with.set_network_namespace("/run/netns/n").unwrap();
        let expected = json!([{"type": "pid"}, {"type": "network", "path": "/run/netns/n"}]);
        assert_eq!(with.config["linux"]["namespaces"], expected);
        assert_eq!(with.config["linux"]["seccomp"], 1);

        let mut without = bundle(json!({}));
        without.set_network_namespace("/run/netns/n").unwrap();
        let expected = json!([{"type": "network", "path": "/run/netns/n"}]);
        assert_eq!(without.config["linux"]["namespaces"], expected);
        assert!(bundle(json!({"linux": 1})).set_network_namespace("/run/netns/n").is_err());
    }

    #[test]
    fn the_rescued_file_system_is_mounted_before_what_is_mounted_into_it() {
        let mut bundle = bundle(json!({"mounts": [{"destination": "/proc"}, {"destination": "/rescue/data"}]}));
        bundle.mount_rescued(Path::new("/merged")).unwrap();
        let destinations: Vec<&Value> =
            bundle.config["mounts"].as_array().unwrap().iter().map(|mount| &mount["destination"]).collect();
        assert_eq!(destinations, ["/proc", "/rescue", "/rescue/data"]);
        assert_eq!(bundle.config["mounts"][1]["source"], "/merged");
    }

    #[test]
    fn a_root_is_made_read_only_where_it_is() {
        let mut bundle = bundle(json!({"root": {"path": "/merged", "readonly": false}}));
        bundle.set_read_only().unwrap();
        assert_eq!(bundle.config["root"], json!({"path": "/merged", "readonly": true}));
    }

    #[test]
    fn a_relative_root_is_the_bundles() {
        assert_eq!(bundle(json!({"root": {"path": "rootfs"}})).root(), Ok("/bundle/rootfs".into()));
        assert_eq!(bundle(json!({"root": {"path": "/merged"}})).root(), Ok("/merged".into()));
        assert!(bundle(json!({})).root().is_err());
    }
}
