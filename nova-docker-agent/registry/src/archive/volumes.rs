//! Volumes of an image's configuration, which servers have not: what is below their paths is a part of a server's own files, and so of
//! its disk, its snapshots and its image on the shelf. The paths are kept in a label.
//!
//! Go's readers take keys in any case, and so does this. An image with volumes whose configuration cannot be written anew is refused:
//! Docker would make volumes of its own, which nothing holds to a size.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The label: a JSON list of paths.
pub const LABEL: &str = "org.openstack.nova.image-volumes";
/// Paths that are kept. Images have a handful.
const MOST: usize = 100;
/// Of a configuration that is read whole: in memory it takes many times as much.
const MOST_BYTES: usize = 1 << 20;

/// The configuration without volumes; none where it has none, and is served as it is. An error where Docker would see volumes that
/// are not seen here.
pub fn dropped(config: &[u8]) -> Result<Option<Bytes>, String> {
    let Names(has_volumes) = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    if !has_volumes {
        return Ok(None);
    }
    if config.len() > MOST_BYTES {
        return Err(format!("one with volumes has at most {MOST_BYTES} bytes"));
    }
    let mut image: Map<String, Value> = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    // There is one of each: see `Names`.
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

/// Whether an image's configuration has volumes. It keeps nothing of what it reads; a name that is there twice, which Go's reader
/// puts together from both, is an error.
struct Names(bool);

/// Whether it is in the object of this kind that something is looked for.
#[derive(Clone, Copy)]
enum Level {
    Image,
    Config,
    Volumes,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level::Image.deserialize(deserializer).map(Self)
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of an image's configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let (name, within) = match self {
            Self::Image => ("config", Self::Config),
            Self::Config => ("volumes", Self::Volumes),
            // The same path twice is one volume.
            Self::Volumes => {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                return Ok(any);
            }
        };
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if folded(&key) != name {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value_seed(within)?).is_some() {
                return Err(serde::de::Error::custom(format_args!("it has {name} twice")));
            }
        }
        Ok(found.unwrap_or(false))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    // What Docker does not take for volumes, or for a configuration, it refuses itself.
    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }
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
mod tests;
