//! When Docker starts a container again that has ended.

use std::fmt;

/// Docker's own numbers are no larger.
const MOST_RETRIES: u32 = i32::MAX as u32;

/// When an ended container starts again, without anybody asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whatever it ended with.
    Always,
    /// When it ended badly, so often in a row; without a number, always.
    OnFailure(Option<u32>),
}

impl Restart {
    /// Compose's words; none is `no`. `unless-stopped` is `always`: here a container that is stopped stays stopped.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        const WRONG: &str = "it is neither no, always, unless-stopped nor on-failure";
        match text.trim() {
            // YAML may have taken the word for a truth.
            "no" | "false" => Ok(None),
            "always" | "unless-stopped" => Ok(Some(Self::Always)),
            "on-failure" => Ok(Some(Self::OnFailure(None))),
            other => {
                let digits = other.strip_prefix("on-failure:").ok_or(WRONG)?;
                let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.parse().ok().filter(|number| is_number && (1..=MOST_RETRIES).contains(number));
                number
                    .map(|number| Some(Self::OnFailure(Some(number))))
                    .ok_or("what follows the colon is no number from 1")
            }
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => formatter.write_str("always"),
            Self::OnFailure(None) => formatter.write_str("on-failure"),
            Self::OnFailure(Some(number)) => write!(formatter, "on-failure:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_as_it_is_read() {
        for text in ["always", "on-failure", "on-failure:5", "on-failure:2147483647"] {
            assert_eq!(Restart::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(Restart::parse("unless-stopped"), Ok(Some(Restart::Always)));
        assert_eq!((Restart::parse("no"), Restart::parse(" false ")), (Ok(None), Ok(None)));
        for text in ["", "yes", "Always", "on-failure:", "on-failure:0", "on-failure:-1", "on-failure:+1", "always:3"] {
            assert!(Restart::parse(text).is_err(), "{text}");
        }
        assert!(Restart::parse("on-failure:2147483648").is_err());
    }
}
