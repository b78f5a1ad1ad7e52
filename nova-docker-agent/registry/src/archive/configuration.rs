//! What is read of an image's configuration here. Docker reads the rest, from the very bytes that the image has.
//!
//! So that nothing is refused that Docker takes, it is read as Go's `encoding/json` reads: names in any case, null for
//! nothing, the last of two values of one name; and what nobody here needs (entry point, history, ...) is not looked at.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Platform;

/// An image's configuration.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub platform: Platform,
    /// The digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<String>,
}

/// `rootfs` of the configuration.
#[derive(Default)]
struct RootFs(Vec<String>);

impl<'de> Deserialize<'de> for Configuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

impl<'de> Deserialize<'de> for RootFs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RootFsReader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Configuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Configuration, A::Error> {
        let mut found = Configuration::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.to_ascii_lowercase().as_str() {
                "os" => take(&mut map, &mut found.platform.os)?,
                "architecture" => take(&mut map, &mut found.platform.architecture)?,
                "variant" => take(&mut map, &mut found.platform.variant)?,
                "rootfs" => {
                    let mut rootfs = RootFs::default();
                    take(&mut map, &mut rootfs)?;
                    found.diff_ids = rootfs.0;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

struct RootFsReader;

impl<'de> Visitor<'de> for RootFsReader {
    type Value = RootFs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rootfs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RootFs, A::Error> {
        let mut found = RootFs::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.to_ascii_lowercase().as_str() {
                "diff_ids" => take(&mut map, &mut found.0)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Takes a value; null leaves what was there.
fn take<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A, place: &mut T) -> Result<(), A::Error> {
    if let Some(value) = map.next_value()? {
        *place = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
