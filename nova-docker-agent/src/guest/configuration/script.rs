//! User data that is a script, where its user wants it to run in the container.

use std::fmt;

use super::user_data;

/// Bytes of the first line that the kernel looks at.
const LONGEST_LINE: usize = 255;
/// Where the script is in the container while it runs.
pub const PATH: &str = "/run/user-data";

/// A script for the first start.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// The program that its first line names, that program's argument, and the script itself.
    pub argv: Vec<String>,
    /// All of it.
    pub content: String,
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a script for {:?}", self.argv.first())
    }
}

/// The script in user data as Nova keeps it.
pub(super) fn script(encoded: &str) -> Result<Script, &'static str> {
    let content = user_data::script(encoded)?.ok_or("the user data does not begin with #!")?;
    let line = content.lines().next().unwrap_or_default();
    if line.len() > LONGEST_LINE {
        return Err("the user data's first line is longer than 255 bytes");
    }
    // As the kernel does: what follows the program is one argument.
    let line = line.trim_start_matches("#!").trim();
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if !program.starts_with('/') || line.chars().any(|letter| letter.is_control() && letter != '\t') {
        return Err("the user data's first line names no absolute path of a program");
    }
    let argument = argument.trim();
    let words = [program, argument, PATH].into_iter().filter(|word| !word.is_empty());
    Ok(Script { argv: words.map(str::to_owned).collect(), content })
}
