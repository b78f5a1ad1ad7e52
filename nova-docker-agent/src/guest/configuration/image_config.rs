//! What an image itself says of its containers, for people: Docker reads it from the image.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// An image's own configuration, by our keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig(pub(super) BTreeMap<String, String>);

impl ImageConfig {
    /// Reads JSON: an image's configuration as OCI has it, what `docker inspect` prints of an image, or the `config` of either.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let whole: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let whole = match whole {
            Value::Array(mut images) if images.len() == 1 => images.remove(0),
            whole => whole,
        };
        let Value::Object(whole) = whole else { return Err("it is not the configuration of one image".to_owned()) };
        let config = match field(&whole, "config") {
            Some(Value::Object(config)) => config,
            _ => &whole,
        };
        let mut all = BTreeMap::new();
        for (theirs, ours) in [("User", "user"), ("WorkingDir", "working_dir"), ("StopSignal", "stop_signal")] {
            let text = field(config, theirs).and_then(Value::as_str).filter(|text| !text.is_empty());
            all.extend(text.map(|text| (ours.to_owned(), text.to_owned())));
        }
        for (theirs, ours) in [("Entrypoint", "entrypoint"), ("Cmd", "command")] {
            let words = field(config, theirs).map(words).filter(|words| !words.is_empty());
            all.extend(words.map(|words| (ours.to_owned(), Value::from(words).to_string())));
        }
        for variable in field(config, "Env").map(words).unwrap_or_default() {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            all.insert(format!("env:{name}"), value.to_owned());
        }
        if let Some(Value::Object(labels)) = field(config, "Labels") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            all.extend(labels.iter().map(|(name, value)| (format!("label:{name}"), text(value))));
        }
        Ok(Self(all))
    }
}

/// As Docker reads it: in any case, and null for nothing.
fn field<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    of.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null()).map(|(_, value)| value)
}

/// A text is a list of one.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        value => value.as_str().into_iter().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_images_configuration_is_read_in_each_form_that_programs_print() {
        let config = json!({
            "Entrypoint": "/init", "Cmd": ["a", "b c"], "Env": ["PATH=/bin", "EMPTY="], "User": "", "WorkingDir": "/srv",
            "stopsignal": "SIGINT", "Labels": {"role": "web"}, "Volumes": null,
        });
        let expected = [
            ("command", r#"["a","b c"]"#),
            ("entrypoint", r#"["/init"]"#),
            ("env:EMPTY", ""),
            ("env:PATH", "/bin"),
            ("label:role", "web"),
            ("stop_signal", "SIGINT"),
            ("working_dir", "/srv"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for form in [
            json!({"architecture": "amd64", "config": config, "rootfs": {}}),
            json!([{"Id": "sha256:1", "Config": config}]),
            config.clone(),
        ] {
            let read = ImageConfig::parse(form.to_string().as_bytes());
            assert_eq!(read, Ok(ImageConfig(BTreeMap::clone(&expected))), "{form}");
        }
        assert_eq!(ImageConfig::parse(b"{}"), Ok(ImageConfig::default()));
        for wrong in ["", "[]", "1", "[{}, {}]"] {
            assert!(ImageConfig::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
