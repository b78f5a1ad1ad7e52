//! The keys of JSON, as it is read: nothing of it is kept. Go's readers take keys in any case, so whoever goes by what Docker may
//! understand looks at all of them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Reads JSON, and asks `see` about each key: what the place below it is, if there is anything to look for, or what is wrong with
/// it. The elements of a list are of the same place as the list.
pub fn walk<P: Copy>(
    json: &[u8],
    place: P,
    mut see: impl FnMut(P, &str) -> Result<Option<P>, String>,
) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_slice(json);
    At { place, see: &mut see }.deserialize(&mut json)?;
    json.end()
}

/// A key as Go folds it: characters that are not ASCII as well.
pub fn folded(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

/// A value, where it is, and who is asked about its keys.
struct At<'a, P, S> {
    place: P,
    see: &'a mut S,
}

impl<'de, P: Copy, S: FnMut(P, &str) -> Result<Option<P>, String>> DeserializeSeed<'de> for At<'_, P, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de, P: Copy, S: FnMut(P, &str) -> Result<Option<P>, String>> Visitor<'de> for At<'_, P, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match (*self.see)(self.place, &key).map_err(A::Error::custom)? {
                Some(place) => map.next_value_seed(At { place, see: &mut *self.see })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(At { place: self.place, see: &mut *self.see })?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
