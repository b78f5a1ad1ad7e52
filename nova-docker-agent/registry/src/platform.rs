//! What an image runs on, in Go's words (`linux`, `amd64`, `v2`), and what this host can run.
//!
//! Source: OCI image specification 1.1, image-index.md, "Platform Variants". Other words for the same are read as
//! containerd reads them (`platforms.Normalize`), and it is asked which of several platforms fits best.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::manifest::or_default;

/// What a level of amd64 adds, in the words of `/proc/cpuinfo`. Source: x86-64 psABI, "Micro-Architecture Levels".
const AMD64_LEVELS: [(u32, &[&str]); 3] = [
    (2, &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    (3, &["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"]),
    (4, &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
];

/// A platform. What is empty is not said, and fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// The level of the instruction set: `v3` of amd64, `v7` of arm.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// How well an image fits a host: the greater the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fitness {
    /// It is for the processor itself, not for its 32-bit ancestor.
    pub is_native: bool,
    /// The level of the instruction set that it makes use of.
    level: u32,
}

impl Platform {
    /// What this host runs, with the highest level of its processor.
    pub fn host() -> Self {
        static HOST: OnceLock<Platform> = OnceLock::new();
        let look = || {
            // Without it, the first level is sure.
            let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            Self::of_processor(std::env::consts::ARCH, &processor)
        };
        HOST.get_or_init(look).clone()
    }

    /// Of Rust's name for an architecture, and what `/proc/cpuinfo` says of the processor.
    fn of_processor(architecture: &str, processor: &str) -> Self {
        let (architecture, variant) = match architecture {
            "x86" => ("386", String::new()),
            "x86_64" => ("amd64", format!("v{}", amd64_level(&words(processor, "flags")))),
            "aarch64" => ("arm64", if words(processor, "Features").contains(&"sve2") { "v9" } else { "v8" }.to_owned()),
            "arm" => {
                let version = words(processor, "CPU architecture").first().map_or("7", |version| &version[..1]);
                ("arm", format!("v{version}"))
            }
            "powerpc64" => ("ppc64le", String::new()),
            "loongarch64" => ("loong64", String::new()),
            other => (other, String::new()),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant }
    }

    /// The same in the words that images should use.
    pub fn normalized(&self) -> Self {
        let [os, architecture, variant] =
            [&self.os, &self.architecture, &self.variant].map(|word| word.trim().to_ascii_lowercase());
        let (architecture, variant) = match architecture.as_str() {
            "i386" => ("386", String::new()),
            "x86_64" | "x86-64" => ("amd64", variant),
            "aarch64" => ("arm64", variant),
            "armhf" => ("arm", "v7".to_owned()),
            "armel" => ("arm", "v6".to_owned()),
            _ => (architecture.as_str(), variant),
        };
        Self { os, architecture: architecture.to_owned(), variant }
    }

    /// How an image for `other` fits this host; `None` when it does not run here. What an image leaves out fits, and so does
    /// a variant that nobody knows: Docker asks for neither.
    pub fn fitness(&self, other: &Self) -> Option<Fitness> {
        let other = other.normalized();
        let is_native = other.architecture.is_empty() || other.architecture == self.architecture;
        let narrower = [("amd64", "386"), ("arm64", "arm")].contains(&(&*self.architecture, &*other.architecture));
        let (os_fits, level) = (other.os.is_empty() || other.os == self.os, other.level());
        let within = level <= self.level() || other.architecture != self.architecture && level <= 8;
        (os_fits && (is_native || narrower) && within).then_some(Fitness { is_native, level })
    }

    /// The number of the variant; 0 when there is none that this architecture has.
    fn level(&self) -> u32 {
        let default = match self.architecture.as_str() {
            "amd64" => 1,
            "arm" => 7,
            "arm64" => 8,
            _ => return 0,
        };
        let number = self.variant.trim_start_matches('v');
        if number.is_empty() { default } else { number.parse().unwrap_or_default() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = [&self.os, &self.architecture, &self.variant];
        let said: Vec<&str> = said.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        f.write_str(&said.join("/"))
    }
}

/// The words after a name in `/proc/cpuinfo`, of the first processor.
fn words<'a>(processor: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = processor.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find(|(key, _)| key.trim() == name);
    line.map(|(_, words)| words.split_whitespace().collect()).unwrap_or_default()
}

fn amd64_level(flags: &[&str]) -> u32 {
    let reached = AMD64_LEVELS.iter().take_while(|(_, needed)| needed.iter().all(|flag| flags.contains(flag)));
    reached.last().map_or(1, |(level, _)| *level)
}

#[cfg(test)]
mod tests;
