//! Volumes of an image's configuration, which servers have not: what is below their paths is a part of a server's own files, and so of
//! its disk, its snapshots and its image on the shelf. The paths are kept in a label.
//!
//! Go's readers take keys in any case, and so does this. An image with volumes whose configuration cannot be written anew is refused:
//! Docker would make volumes of its own, which nothing holds to a size.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::json::{self, folded};

/// The label: a JSON list of paths.
pub const LABEL: &str = "org.openstack.nova.image-volumes";
/// Paths that are kept. Images have a handful.
const MOST: usize = 100;
/// Of a configuration that is read whole: in memory it takes many times as much.
const MOST_BYTES: usize = 1 << 20;

/// The configuration without volumes; none where it has none, and is served as it is. An error where Docker would see volumes that
/// are not seen here.
pub fn dropped(config: &[u8]) -> Result<Option<Bytes>, String> {
    if !has_volumes(config).map_err(|error| error.to_string())? {
        return Ok(None);
    }
    if config.len() > MOST_BYTES {
        return Err(format!("one with volumes has at most {MOST_BYTES} bytes"));
    }
    let mut image: Map<String, Value> = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    // There is one of each: see `has_volumes`.
    let Some(config) = values(&mut image, "config").find_map(Value::as_object_mut) else { return Ok(None) };
    let mut paths: Vec<String> = Vec::new();
    for volumes in values(config, "volumes").filter_map(|volumes| volumes.as_object()) {
        paths.extend(volumes.keys().take(MOST).cloned());
    }
    config.retain(|key, _| folded(key) != "volumes");
    let label = Value::from(Value::from(paths).to_string());
    match values(config, "labels").filter_map(Value::as_object_mut).last() {
        Some(labels) => drop(labels.insert(LABEL.to_owned(), label)),
        None => {
            config.retain(|key, _| folded(key) != "labels");
            config.insert("Labels".to_owned(), Value::Object(Map::from_iter([(LABEL.to_owned(), label)])));
        }
    }
    serde_json::to_vec(&image).map(|bytes| Some(bytes.into())).map_err(|error| error.to_string())
}

/// Whether an image's configuration has volumes. A name that is there twice, which Go's reader puts together from both, is an
/// error. What Docker does not take for volumes, or for a configuration, it refuses itself.
fn has_volumes(config: &[u8]) -> serde_json::Result<bool> {
    #[derive(Clone, Copy)]
    enum Place {
        Image,
        Config,
        Volumes,
    }
    let (mut configs, mut volumes, mut found) = (0, 0, false);
    json::walk(config, Place::Image, |place, key| {
        let (name, seen, below) = match place {
            Place::Image => ("config", &mut configs, Place::Config),
            Place::Config => ("volumes", &mut volumes, Place::Volumes),
            // The same path twice is one volume.
            Place::Volumes => {
                found = true;
                return Ok(None);
            }
        };
        if folded(key) != name {
            return Ok(None);
        }
        *seen += 1;
        if *seen > 1 { Err(format!("it has {name} twice")) } else { Ok(Some(below)) }
    })?;
    Ok(found)
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

#[cfg(test)]
mod tests;
