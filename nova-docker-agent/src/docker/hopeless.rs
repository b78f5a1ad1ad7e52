//! Whether a stop signal can end a container at all.
//!
//! The kernel drops signals that the first process of a PID namespace neither handles nor waits for: `sleep` or `sh -c` as the
//! command of a container runs on until it is killed, and waiting for it is in vain.

use std::ops::RangeInclusive;

/// Linux's name of each signal by its number, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// Docker's SIGRTMIN to SIGRTMAX, as the C library leaves them to programs.
const REALTIME: RangeInclusive<u32> = 34..=64;
/// What Docker sends where nothing else is asked for.
const SIGTERM: u32 = 15;

/// Whether the process with this status (`/proc/PID/status`) ignores `signal`, as Docker has it of a container: it has no handler
/// for it, and does not wait for it blocked. What cannot be read counts as heeded.
pub(super) fn ignores(status: &str, signal: Option<&str>) -> bool {
    let Some(number) = number(signal.unwrap_or_default()) else { return false };
    let mask = |field: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        u64::from_str_radix(value.trim(), 16).ok()
    };
    let bit = 1u64 << (number - 1);
    match (mask("SigCgt"), mask("SigBlk")) {
        (Some(caught), Some(blocked)) => (caught | blocked) & bit == 0,
        _ => false,
    }
}

/// Whether the process with this status is still the runtime's, runc's or crun's: the command of its container is about to take its
/// place.
pub(super) fn is_runtimes(status: &str) -> bool {
    let name = status.lines().find_map(|line| line.strip_prefix("Name:")).map(str::trim);
    name.is_some_and(|name| name.starts_with("runc:[") || name == "crun")
}

/// `15`, `TERM`, `SIGTERM`, `RTMIN+3`; an empty one is SIGTERM.
fn number(signal: &str) -> Option<u32> {
    if signal.is_empty() {
        return Some(SIGTERM);
    }
    if let Ok(number) = signal.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return u32::try_from(at + 1).ok();
    }
    let step = |text: &str| if text.is_empty() { Some(0) } else { text.strip_prefix(['+', '-'])?.parse::<u32>().ok() };
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => REALTIME.start().checked_add(step(rest)?)?,
        (_, Some(rest)) => REALTIME.end().checked_sub(step(rest)?)?,
        _ => return None,
    };
    REALTIME.contains(&realtime).then_some(realtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_yet_the_command_is_told_from_it() {
        for runtime in ["runc:[2:INIT]", "crun"] {
            assert!(is_runtimes(&format!("Name:\t{runtime}\nUmask:\t0022\n")), "{runtime}");
        }
        for other in ["Name:\tsleep\n", "Name:\trunc\n", "Name:\tcrunch\n", "Umask:\t0022\n", ""] {
            assert!(!is_runtimes(other), "{other:?}");
        }
    }

    /// The masks of a process that handles, and that blocks, these signals.
    fn status(caught: u64, blocked: u64) -> String {
        format!("Name:\tsh\nSigQ:\t0/1\nSigBlk:\t{blocked:016x}\nSigIgn:\t0000000000000000\nSigCgt:\t{caught:016x}\n")
    }

    #[test]
    fn a_process_without_a_handler_ignores_its_stop_signal() {
        let term = 1 << 14;
        assert!(ignores(&status(0, 0), None));
        assert!(!ignores(&status(term, 0), None));
        assert!(!ignores(&status(0, term), Some("SIGTERM")), "it may wait for it");
        assert!(ignores(&status(term, 0), Some("SIGINT")));
        assert!(ignores(&status(term, 0), Some("2")));
        assert!(!ignores(&status(1 << 36, 0), Some("SIGRTMIN+3")));
    }

    #[test]
    fn what_is_not_understood_is_waited_for() {
        assert!(!ignores("", None));
        assert!(!ignores(&status(0, 0), Some("SIGNOTHING")));
        for signal in
            ["0", "65", "RTMIN+31", "RTMAX-40", "RTMIN+x", "RTMIN+4294967295", "RTMIN\u{20ac}", "-1", "99999999999"]
        {
            assert!(!ignores(&status(0, 0), Some(signal)), "{signal}");
        }
    }

    #[test]
    fn signals_have_linuxs_numbers() {
        for (name, expected) in
            [("", 15), ("sigterm", 15), ("KILL", 9), ("SIGSYS", 31), ("RTMIN", 34), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(number(name), Some(expected), "{name}");
        }
    }
}
