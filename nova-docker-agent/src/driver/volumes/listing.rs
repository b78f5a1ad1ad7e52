//! Named volumes for an operator to look at.

use std::collections::HashSet;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::docker::Volume;
use crate::driver::unused::{Times, blocking};

/// What `stat` counts blocks in.
const BLOCK: u64 = 512;

/// A volume in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Who owns it.
    pub project_id: String,
    /// Its name in the project.
    pub name: String,
    /// What its files take on the disk; absent when that cannot be told.
    pub bytes: Option<u64>,
    /// The servers that name it.
    pub servers: Vec<Uuid>,
    /// Since when no container names it, as far as the agent has seen.
    pub unused_since: Option<Timestamp>,
    /// Docker's name of it.
    pub docker_name: String,
}

/// All volumes of a host, by project and name. Displayed it is a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Listing(pub Vec<Listed>);

impl Listing {
    pub(super) async fn of(volumes: Vec<Volume>, unused_since: &Times) -> Self {
        let mut all = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let directory = volume.directory;
            all.push(Listed {
                unused_since: unused_since.get(&volume.docker_name).copied().filter(|_| !volume.is_used),
                bytes: blocking(move || size(&directory)).await.ok(),
                servers: volume.instances.into_iter().collect(),
                project_id: volume.project_id,
                name: volume.name,
                docker_name: volume.docker_name,
            });
        }
        Self(all)
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["PROJECT", "NAME", "SIZE", "UNUSED SINCE", "SERVERS"].map(str::to_owned);
        let rows: Vec<[String; 5]> = std::iter::once(header).chain(self.0.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
        let widths: [usize; 4] = std::array::from_fn(width);
        for row in &rows {
            for (cell, width) in row.iter().zip(widths) {
                write!(formatter, "{cell:width$}  ")?;
            }
            writeln!(formatter, "{}", row[4])?;
        }
        Ok(())
    }
}

fn row(volume: &Listed) -> [String; 5] {
    let dash = || "-".to_owned();
    let servers: Vec<String> = volume.servers.iter().map(Uuid::to_string).collect();
    [
        volume.project_id.clone(),
        volume.name.clone(),
        volume.bytes.map_or_else(dash, readable),
        volume.unused_since.map_or_else(dash, |since| since.strftime("%Y-%m-%d %H:%MZ").to_string()),
        if servers.is_empty() { dash() } else { servers.join(" ") },
    ]
}

/// `12.3 MiB`.
fn readable(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes as f64 / 1024.0, 0);
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", units[unit])
}

/// What the files below a directory take on the disk, each once, in bytes. What goes while it is counted counts as nothing.
fn size(directory: &Path) -> std::io::Result<u64> {
    let mut total = std::fs::symlink_metadata(directory)?.blocks();
    let mut linked = HashSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            // Of a link itself, never of what it leads to.
            let Ok(found) = entry.metadata() else { continue };
            if found.nlink() > 1 && !found.is_dir() && !linked.insert((found.dev(), found.ino())) {
                continue;
            }
            total = total.saturating_add(found.blocks());
            if found.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(total.saturating_mul(BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let used = Listed {
            project_id: "0123abcd".to_owned(),
            name: "data".to_owned(),
            bytes: Some(5 << 20),
            servers: vec![Uuid::nil()],
            unused_since: None,
            docker_name: "nova-volume.0123abcd.data".to_owned(),
        };
        let unused = Listed {
            name: "old-data".to_owned(),
            bytes: None,
            servers: vec![],
            unused_since: Some("2026-03-01T12:30:00Z".parse().unwrap()),
            ..used.clone()
        };
        Listing(vec![used, unused])
    }

    #[test]
    fn a_table_has_a_line_for_each_volume() {
        let expected = "PROJECT   NAME      SIZE     UNUSED SINCE       SERVERS\n\
            0123abcd  data      5.0 MiB  -                  00000000-0000-0000-0000-000000000000\n\
            0123abcd  old-data  -        2026-03-01 12:30Z  -\n";
        assert_eq!(listing().to_string(), expected);
    }

    #[test]
    fn programs_read_a_list_of_objects() {
        let json = serde_json::to_value(listing()).unwrap();
        assert_eq!(json[0]["bytes"], 5 << 20);
        assert_eq!(json[1]["unused_since"], "2026-03-01T12:30:00Z");
    }

    #[test]
    fn the_size_counts_each_file_once_and_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let empty = size(directory.path()).unwrap();
        std::fs::create_dir(at("below")).unwrap();
        std::fs::write(at("below/file"), vec![1; 1 << 20]).unwrap();
        let once = size(directory.path()).unwrap();
        assert!(once >= empty + (1 << 20), "{empty} {once}");
        std::fs::hard_link(at("below/file"), at("below/same")).unwrap();
        std::os::unix::fs::symlink("/", at("root")).unwrap();
        std::os::unix::fs::symlink(at("below/file"), at("link")).unwrap();
        assert!(size(directory.path()).unwrap() < once + (1 << 20));
        assert!(size(&at("absent")).is_err());
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [0, 1023 << 10, 1 << 30, u64::MAX].map(readable),
            ["0.0 KiB", "1023.0 KiB", "1.0 GiB", "16777216.0 TiB"]
        );
    }
}
