//! The recorded traffic in `tests/wire`, for tests: of this crate, and by path of those that use it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// A message between unmodified services.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recorded {
    pub sender: String,
    pub exchange: String,
    pub routing_key: String,
    pub properties: Map<String, Value>,
    pub message: Map<String, Value>,
}

impl Recorded {
    /// Sent to a compute service, and not a reply.
    pub(crate) fn is_request_to_compute(&self) -> bool {
        self.exchange == "nova" && self.routing_key.starts_with("compute")
    }

    /// Sent by a compute service, and not a reply.
    pub(crate) fn is_request_of_compute(&self) -> bool {
        self.sender.starts_with("nova-compute") && self.message.contains_key("method")
    }

    pub(crate) fn is_reply(&self) -> bool {
        !self.message.contains_key("method")
    }

    pub(crate) fn method(&self) -> &str {
        self.message["method"].as_str().unwrap()
    }
}

/// The messages of one operation.
pub(crate) fn operation(name: &str) -> Vec<Recorded> {
    let path = directory().join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All recorded messages.
pub(crate) fn all() -> Vec<Recorded> {
    let entries = std::fs::read_dir(directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned)).collect();
    names.sort();
    names.iter().flat_map(|name| operation(name)).collect()
}

fn directory() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|directory| directory.join("tests/wire"));
    above.find(|directory| directory.is_dir()).unwrap()
}
