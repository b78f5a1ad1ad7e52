//! Reads the sources of a configuration, one after the other.

use std::collections::BTreeMap;

use super::mistakes::{Mistake, Mistakes};
use super::{Configuration, KEYS, Setting};

/// Nova's own image property for a command; weaker than `docker_command`.
const COMMAND_LINE: &str = "os_command_line";
/// Bytes of one value. The kernel takes no argument or variable of 128 KiB.
const MOST_OF_VALUE: usize = 64 * 1024;
/// Bytes of all keys and values together. The kernel takes 2 MiB of arguments and variables.
const MOST_OF_ALL: usize = 512 * 1024;

/// Reads one source after the other, weakest first.
pub(super) struct Reader {
    pub(super) memory: u64,
    pub(super) made: Configuration,
    pub(super) bytes: usize,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader {
    /// An empty one is none.
    pub(super) fn command_line(&mut self, properties: &BTreeMap<String, String>) {
        match properties.get(COMMAND_LINE) {
            Some(line) if !line.trim().is_empty() => self.set("command", COMMAND_LINE, "", line),
            _ => {}
        }
    }

    pub(super) fn source(&mut self, prefix: &str, source: &BTreeMap<String, String>) {
        for (key, value) in source {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            // The name ends with its colon, which a metadata key's prefix has too.
            let (name, more) = rest.find(':').map_or((rest, ""), |colon| rest.split_at(colon + 1));
            self.set(name, key, more, value);
        }
    }

    pub(super) fn set(&mut self, key: &str, shown: &str, name: &str, value: &str) {
        self.bytes = self.bytes.saturating_add(shown.len()).saturating_add(value.len());
        let Some(key) = KEYS.iter().find(|known| known.name == key) else {
            let problem = if KEYS.iter().any(|known| known.name.strip_suffix(':') == Some(key)) {
                "the name after a colon is missing"
            } else {
                "there is no such key"
            };
            return self.mistakes.push(Mistake { key: shown.to_owned(), problem, allowed: None });
        };
        let checked = match value {
            _ if value.len() > MOST_OF_VALUE => Err("it is longer than 65536 bytes"),
            _ if value.contains('\0') => Err("it has a zero byte"),
            _ => (key.set)(&mut self.made, Setting { name, value, memory: self.memory }),
        };
        if let Err(problem) = checked {
            self.mistakes.push(Mistake { key: shown.to_owned(), problem, allowed: Some(key.allowed) });
        }
    }

    pub(super) fn end(mut self) -> Result<Configuration, Mistakes> {
        if self.bytes > MOST_OF_ALL {
            let problem = "all keys and values together are longer than 524288 bytes";
            self.mistakes.push(Mistake { key: "docker:*".to_owned(), problem, allowed: None });
        }
        if self.mistakes.is_empty() { Ok(self.made) } else { Err(Mistakes(self.mistakes)) }
    }
}
