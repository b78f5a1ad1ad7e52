//! The configuration as text: every option with its value and where that comes from.

use std::fmt;

use super::reader::{Reader, Resolved};

/// All options that were read. `Display` is an INI file in which the origin of each value is a comment; secrets are hidden.
#[derive(Clone, Debug)]
pub struct Listing {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    section: String,
    name: &'static str,
    value: Option<String>,
    origin: String,
    help: &'static str,
}

impl Listing {
    pub fn new(reader: &Reader) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        for Resolved { spec, text, origin } in &reader.resolved {
            if lines.iter().any(|line| line.section == spec.section && line.name == spec.name) {
                continue;
            }
            let hidden = |text: &String| if spec.secret { "<hidden>".to_owned() } else { text.replace('\n', "\n  ") };
            let value = text.as_ref().map(hidden);
            lines.push(Line {
                section: spec.section.clone(),
                name: spec.name,
                value,
                origin: origin.to_string(),
                help: spec.help,
            });
        }
        lines.sort_by_key(|line| section_order(&line.section));
        Self { lines }
    }
}

fn section_order(section: &str) -> (u8, String) {
    let rank = match section {
        "DEFAULT" => 0,
        "docker" | "registry" => 1,
        _ => 2,
    };
    (rank, section.to_owned())
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = None;
        for line in &self.lines {
            if section != Some(&line.section) {
                writeln!(f, "{}[{}]", if section.is_some() { "\n" } else { "" }, line.section)?;
                section = Some(&line.section);
            }
            writeln!(f, "# {} ({})", line.help, line.origin)?;
            match &line.value {
                Some(value) => writeln!(f, "{} = {value}", line.name)?,
                None => writeln!(f, "#{} =", line.name)?,
            }
        }
        Ok(())
    }
}
