//! What is read of an image's configuration here. Docker reads the rest, from the very bytes that the image has.
//!
//! So that nothing is refused that Docker takes, it is read as Go's `encoding/json` reads: names in any case, null for
//! nothing, the last of two values of one name; and what nobody here needs (entry point, history, ...) is not looked at.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Platform;

/// An image's configuration.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub platform: Platform,
    /// The digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<String>,
}

impl<'de> Deserialize<'de> for Configuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Self::default();
        Reader { place: Place::Image, found: &mut found }.deserialize(deserializer)?;
        Ok(found)
    }
}

/// What is being read.
#[derive(Clone, Copy)]
enum Place {
    Image,
    RootFs,
}

struct Reader<'a> {
    place: Place,
    found: &'a mut Configuration,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of an image configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { place, found } = self;
        while let Some(name) = map.next_key::<String>()? {
            match (place, name.to_ascii_lowercase().as_str()) {
                (Place::Image, "os") => take(&mut map, &mut found.platform.os)?,
                (Place::Image, "architecture") => take(&mut map, &mut found.platform.architecture)?,
                (Place::Image, "variant") => take(&mut map, &mut found.platform.variant)?,
                (Place::Image, "rootfs") => map.next_value_seed(Reader { place: Place::RootFs, found: &mut *found })?,
                (Place::RootFs, "diff_ids") => take(&mut map, &mut found.diff_ids)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
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
