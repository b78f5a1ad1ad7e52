//! Bounds of the numbers that others than this host's operator set: tenants, flavors, Glance, Neutron, the peer of the second
//! door. Each is brought into its bounds where it enters, so that no arithmetic behind the door can overflow and nobody can
//! make the host wait without end.

use std::time::Duration;

/// The longest clean stop that a tenant can ask for. A stop keeps its instance locked, and the host from a graceful end.
pub const LONGEST_STOP: Duration = Duration::from_secs(3600);
/// Docker takes seconds as a 32-bit number.
const LONGEST_STOP_IN_DOCKER: Duration = Duration::from_secs(i32::MAX as u64);
/// The kernel's own bounds of an interface's MTU: IPv4's least, and what 16 bits hold.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;
/// The kernel's `PID_MAX_LIMIT`: a greater limit of processes is refused when the container starts.
const MOST_PROCESSES: i64 = 4_194_304;

/// How long a container has to end by itself before it is killed; zero kills at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopTimeout(Duration);

impl StopTimeout {
    /// No time at all.
    pub const KILL: Self = Self(Duration::ZERO);

    /// What the configuration says.
    pub fn of_operator(timeout: Duration) -> Self {
        Self(timeout.min(LONGEST_STOP_IN_DOCKER))
    }

    /// The image property `os_shutdown_timeout`; none when it is no number. A negative number is no time, as for Nova.
    pub fn of_property(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if negative {
            return Some(Self::KILL);
        }
        // Digits that do not fit are a number all the same.
        let seconds = digits.parse().unwrap_or(u64::MAX);
        Some(Self(Duration::from_secs(seconds).min(LONGEST_STOP)))
    }

    /// What a container's user asks for, or its flavor.
    pub fn of_container(timeout: Duration) -> Self {
        Self(timeout.min(LONGEST_STOP))
    }

    /// What a peer asks for. Absent and negative durations are no time.
    pub fn of_peer(timeout: Option<prost_types::Duration>) -> Self {
        // Not by the library's conversion, which overflows on the least number.
        let Some(timeout) = timeout.filter(|timeout| timeout.seconds >= 0) else { return Self::KILL };
        let part = Duration::from_nanos(timeout.nanos.max(0).unsigned_abs().into());
        let whole = Duration::from_secs(timeout.seconds.unsigned_abs());
        Self(whole.min(LONGEST_STOP).saturating_add(part).min(LONGEST_STOP))
    }

    /// The time.
    pub fn get(self) -> Duration {
        self.0
    }

    /// Whole seconds, rounded up, as Docker takes them.
    pub fn seconds(self) -> i32 {
        i32::try_from(self.0.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i32::MAX)
    }
}

/// An interface's MTU as Neutron gives it; 0 is none.
pub fn mtu(mtu: Option<u32>) -> Option<u32> {
    mtu.filter(|mtu| *mtu > 0).map(|mtu| mtu.clamp(*MTU.start(), *MTU.end()))
}

/// A limit of processes, as a flavor gives it.
pub fn processes(limit: i64) -> Option<i64> {
    (limit > 0).then(|| limit.min(MOST_PROCESSES))
}

/// A count that another side tells without a sign, for records whose numbers have one.
pub fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The sum of numbers of which none is to be trusted.
pub fn sum(numbers: impl IntoIterator<Item = i64>) -> i64 {
    numbers.into_iter().fold(0, i64::saturating_add)
}

#[cfg(test)]
pub(crate) mod extremes {
    //! Numbers that nobody should send, for tests to feed to whatever takes one.

    pub(crate) const TEXTS: &[&str] = &[
        "",
        " ",
        "-",
        "+",
        "0",
        "-0",
        "1",
        "-1",
        "+1",
        " 7 ",
        "2147483647",
        "2147483648",
        "-2147483649",
        "4294967295",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999999",
        "1e9",
        "0x10",
        "1.5",
        "NaN",
        "inf",
        "٣",
    ];
    pub(crate) const SIGNED: &[i64] = &[
        i64::MIN,
        i64::MIN + 1,
        i32::MIN as i64 - 1,
        -1,
        0,
        1,
        i32::MAX as i64,
        u32::MAX as i64 + 1,
        i64::MAX - 1,
        i64::MAX,
    ];
    pub(crate) const UNSIGNED: &[u64] =
        &[0, 1, i32::MAX as u64, u32::MAX as u64 + 1, i64::MAX as u64, u64::MAX - 1, u64::MAX];
}

#[cfg(test)]
mod tests {
    use super::{extremes::*, *};

    /// What is added to a timeout on its way; the sum must not overflow.
    const MARGIN: Duration = Duration::from_secs(3600);

    #[test]
    fn whatever_an_image_says_of_its_stop_is_no_longer_than_an_hour() {
        for text in TEXTS {
            if let Some(timeout) = StopTimeout::of_property(text) {
                assert!(timeout.get() <= LONGEST_STOP && timeout.seconds() >= 0, "{text:?}: {timeout:?}");
                assert!(timeout.get().checked_add(MARGIN).is_some());
            }
        }
        let seconds = |text| StopTimeout::of_property(text).map(StopTimeout::seconds);
        assert_eq!(seconds("18446744073709551615"), Some(3600));
        assert_eq!(seconds("99999999999999999999999999"), Some(3600));
        assert_eq!((seconds(" 30 "), seconds("0"), seconds("-5")), (Some(30), Some(0), Some(0)));
        assert_eq!((seconds(""), seconds("soon"), seconds("1.5"), seconds("--1")), (None, None, None, None));
    }

    #[test]
    fn whatever_a_peer_says_of_a_stop_is_no_longer_than_an_hour() {
        for &seconds in SIGNED {
            for nanos in [i32::MIN, -1, 0, 1, 999_999_999, i32::MAX] {
                let timeout = StopTimeout::of_peer(Some(prost_types::Duration { seconds, nanos }));
                assert!(timeout.get() <= LONGEST_STOP, "{seconds} {nanos}: {timeout:?}");
                assert!(seconds >= 0 || timeout.get() <= Duration::from_secs(3), "{seconds} {nanos}: {timeout:?}");
            }
        }
        assert_eq!(StopTimeout::of_peer(None), StopTimeout::KILL);
        assert_eq!(StopTimeout::of_peer(Some(prost_types::Duration { seconds: 2, nanos: 1 })).seconds(), 3);
    }

    #[test]
    fn an_operators_own_time_is_kept_as_far_as_docker_takes_it() {
        let day = Duration::from_secs(86_400);
        assert_eq!(StopTimeout::of_operator(day).get(), day);
        for &seconds in UNSIGNED {
            let timeout = StopTimeout::of_operator(Duration::from_secs(seconds));
            assert!(timeout.seconds() >= 0 && timeout.get().checked_add(MARGIN).is_some(), "{seconds}");
        }
    }

    #[test]
    fn an_mtu_is_none_or_one_that_the_kernel_takes() {
        assert_eq!((mtu(None), mtu(Some(0)), mtu(Some(1450))), (None, None, Some(1450)));
        assert_eq!((mtu(Some(1)), mtu(Some(u32::MAX))), (Some(68), Some(65_535)));
    }

    #[test]
    fn a_limit_of_processes_is_positive_and_one_that_the_kernel_takes() {
        for &limit in SIGNED {
            assert!(processes(limit).is_none_or(|limit| (1..=MOST_PROCESSES).contains(&limit)), "{limit}");
        }
        assert_eq!((processes(0), processes(100)), (None, Some(100)));
    }

    #[test]
    fn sums_of_extremes_stay_in_their_type() {
        assert_eq!(sum(SIGNED.iter().copied().chain([i64::MAX, i64::MAX])), i64::MAX);
        assert_eq!(sum([i64::MIN, -1]), i64::MIN);
        assert!(UNSIGNED.iter().all(|&count| signed(count) >= 0));
    }
}
