//! What a client asks for: one line of JSON.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::docker::{Command, Part, Size};

/// Bytes of a request.
pub(super) const LONGEST: usize = 64 * 1024;
/// Words of a command, and variables of its environment.
const MOST_WORDS: usize = 4096;
const LONGEST_NAME: usize = 255;

/// A request. It has no other fields than these.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Run a command.
    Exec {
        argv: Vec<String>,
        user: Option<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        working_dir: Option<String>,
        #[serde(default)]
        tty: bool,
        size: Option<Size>,
        #[serde(default)]
        stdin: bool,
    },
    /// The first process's input and output.
    Attach {
        #[serde(default)]
        stdin: bool,
        size: Option<Size>,
        /// Begin with all that it has written.
        #[serde(default)]
        logs: bool,
    },
    /// What was written.
    Logs {
        tail: Option<u64>,
        since: Option<String>,
        #[serde(default)]
        timestamps: bool,
        #[serde(default)]
        follow: bool,
    },
    /// The processes.
    Top {},
    /// What happens to the instance.
    Events { since: Option<String> },
}

/// What to do.
#[derive(Debug)]
pub(super) enum Wanted {
    Exec(Command),
    Attach { stdin: bool, size: Option<Size>, logs: bool },
    Logs(Part),
    Top,
    Events { since: Option<String> },
}

/// Understands a request, or says what is wrong with it.
pub(super) fn parse(line: &[u8]) -> Result<Wanted, String> {
    let request: Request = serde_json::from_slice(line).map_err(|error| format!("the request is wrong: {error}"))?;
    Ok(match request {
        Request::Exec { argv, user, env, working_dir, tty, size, stdin } => {
            let command = Command { argv, user, env, working_dir, tty, size, stdin };
            check(&command)?;
            Wanted::Exec(command)
        }
        Request::Attach { stdin, size, logs } => {
            check_size(size)?;
            Wanted::Attach { stdin, size, logs }
        }
        Request::Logs { tail, since, timestamps, follow } => {
            check_time(since.as_deref())?;
            Wanted::Logs(Part { tail, since, timestamps, follow })
        }
        Request::Top {} => Wanted::Top,
        Request::Events { since } => {
            check_time(since.as_deref())?;
            Wanted::Events { since }
        }
    })
}

fn check(command: &Command) -> Result<(), String> {
    let Command { argv, user, env, working_dir, tty: _, size, stdin: _ } = command;
    let wrong = |field: &str, words: &str| Err(format!("{field} {words}"));
    let is_word = |text: &String| !text.contains('\0');
    if argv.first().is_none_or(String::is_empty) || argv.len() > MOST_WORDS || !argv.iter().all(is_word) {
        return wrong("argv", "must name a program, and have no zero bytes");
    }
    let is_name = |name: &String| !name.is_empty() && !name.contains('=') && is_word(name);
    if env.len() > MOST_WORDS || !env.iter().all(|(name, value)| is_name(name) && is_word(value)) {
        return wrong("env", "must have names without '=', and no zero bytes");
    }
    let is_plain = |user: &String| !user.is_empty() && user.len() <= LONGEST_NAME && !user.contains(char::is_control);
    if !user.iter().all(is_plain) {
        return wrong("user", "must be a name or a number, perhaps with a group: user:group");
    }
    if !working_dir.iter().all(|path| path.starts_with('/') && is_word(path)) {
        return wrong("working_dir", "must be an absolute path");
    }
    check_size(*size)
}

fn check_size(size: Option<Size>) -> Result<(), String> {
    if size.is_some_and(|size| size.rows == 0 || size.columns == 0) {
        return Err("size must have rows and columns".to_owned());
    }
    Ok(())
}

/// Digits, perhaps a dot and digits: it becomes a part of an address.
fn check_time(time: Option<&str>) -> Result<(), String> {
    let is_number = |text: &str| (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |text: &str| text.split_once('.').map_or(is_number(text), |(a, b)| is_number(a) && is_number(b));
    if time.is_some_and(|time| !is_time(time)) {
        return Err("since must be a number of seconds since 1970".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        let Ok(Wanted::Exec(command)) = parse(
            br#"{"op": "exec", "argv": ["ls", ""], "tty": true, "size": {"rows": 24, "columns": 80}, "env": {"A": "="}}"#,
        ) else {
            panic!("it is one");
        };
        assert_eq!((command.argv.len(), command.tty, command.stdin), (2, true, false));
        assert!(matches!(parse(br#"{"op": "top"}"#), Ok(Wanted::Top)));
        let logs = parse(br#"{"op": "logs", "tail": 3, "since": "1700000000.5", "follow": true}"#);
        assert!(matches!(logs, Ok(Wanted::Logs(Part { tail: Some(3), follow: true, .. }))));
    }

    #[test]
    fn hostile_requests_are_refused_with_a_reason() {
        let many = format!(r#"{{"op": "exec", "argv": [{}"x"]}}"#, r#""x","#.repeat(MOST_WORDS));
        let deep = format!(r#"{{"op": "exec", "argv": {}"#, "[".repeat(10_000));
        for line in [
            "",
            "ls",
            "[]",
            r#"{"argv": ["ls"]}"#,
            r#"{"op": "sh"}"#,
            r#"{"op": "exec"}"#,
            r#"{"op": "exec", "argv": []}"#,
            r#"{"op": "exec", "argv": [""]}"#,
            r#"{"op": "exec", "argv": "ls"}"#,
            r#"{"op": "exec", "argv": ["a\u0000b"]}"#,
            r#"{"op": "exec", "argv": ["ls"], "privileged": true}"#,
            r#"{"op": "exec", "argv": ["ls"], "argv": ["rm"]}"#,
            r#"{"op": "exec", "argv": ["ls"], "user": ""}"#,
            r#"{"op": "exec", "argv": ["ls"], "user": "a\nb"}"#,
            r#"{"op": "exec", "argv": ["ls"], "env": {"A=B": "c"}}"#,
            r#"{"op": "exec", "argv": ["ls"], "env": {"": "c"}}"#,
            r#"{"op": "exec", "argv": ["ls"], "working_dir": "tmp"}"#,
            r#"{"op": "exec", "argv": ["ls"], "size": {"rows": 0, "columns": 80}}"#,
            r#"{"op": "exec", "argv": ["ls"], "size": {"rows": 99999, "columns": 80}}"#,
            r#"{"op": "logs", "tail": -1}"#,
            r#"{"op": "logs", "since": "1&tail=0"}"#,
            r#"{"op": "logs", "since": ""}"#,
            r#"{"op": "logs", "since": "1."}"#,
            r#"{"op": "events", "filters": {}}"#,
            r#"{"op": "top", "ps_args": "-e"}"#,
            &many,
            &deep,
        ] {
            let refused = parse(line.as_bytes());
            assert!(refused.as_ref().is_err_and(|words| !words.is_empty()), "{line:.80}: {refused:?}");
        }
    }
}
