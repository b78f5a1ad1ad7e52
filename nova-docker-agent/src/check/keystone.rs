//! Keystone: every identity's login, and the clock.

use futures::future::join_all;

use super::finding::Finding;
use crate::cloud::{AuthConfig, Cloud, Credentials, Error, Named, Session};

const CHECK: &str = "keystone";
const CLOCK: &str = "clock";
/// Seconds by which the clocks may differ; messages and tokens are in transit for some of them.
const TOLERANCE: f64 = 5.0;

pub(super) async fn look(cloud: Cloud) -> Vec<Finding> {
    let sessions = cloud.sessions();
    let Some(first) = sessions.first() else {
        return vec![Finding::left_out(CHECK, "no section of the configuration logs in")];
    };
    let logins = join_all(sessions.iter().map(async |session: &Session| {
        let token = session.token().await;
        judge_login(session.auth(), token.err().as_ref())
    }));
    let (mut findings, greeting) = tokio::join!(logins, first.greeting());
    findings.push(match greeting {
        Ok(greeting) => judge_clock(greeting.ahead),
        Err(_) => Finding::left_out(CLOCK, "Keystone, whose clock counts for tokens, must answer first"),
    });
    findings
}

fn judge_login(auth: &AuthConfig, failure: Option<&Error>) -> Finding {
    let who = format!("{} at {}", identity(auth), auth.auth_url);
    let Some(error) = failure else { return Finding::ok(CHECK, format!("{who}: logged in")) };
    let advice = match error.status() {
        Some(401 | 403) => {
            "correct username, password, domains and project in the sections of nova.conf with this user; \
             `openstack token issue` with the same tells whether Keystone takes them"
        }
        Some(404) => "correct auth_url: Keystone's base, with or without /v3",
        Some(_) => "see Keystone's log",
        None => "see whether Keystone runs there, and whether auth_url and cafile are right",
    };
    Finding::failed(CHECK, format!("{who}: {error}"), advice)
}

fn identity(auth: &AuthConfig) -> String {
    let name = |named: &Named| match named {
        Named::Id(text) | Named::Name(text) => text.clone(),
    };
    match &auth.credentials {
        Credentials::Password { user, .. } => format!("user {}", name(user)),
        Credentials::ApplicationCredential { id, .. } => format!("application credential {}", name(id)),
    }
}

fn judge_clock(ahead: Option<f64>) -> Finding {
    match ahead {
        None => Finding::left_out(CLOCK, "Keystone tells no time"),
        Some(ahead) if ahead.abs() <= TOLERANCE => Finding::ok(CLOCK, "agrees with Keystone's"),
        Some(ahead) => Finding::warning(
            CLOCK,
            format!(
                "this host's clock is {:.0} s {} Keystone's: tokens end early or begin late, and the host may count as down",
                ahead.abs(),
                if ahead > 0.0 { "behind" } else { "ahead of" }
            ),
            "let both follow the same time servers (chrony, systemd-timesyncd)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::config;
    use super::*;

    #[test]
    fn a_clock_that_is_off_by_more_than_some_seconds_is_a_warning_that_says_which_way() {
        assert_eq!(judge_clock(Some(-4.9)).verdict, Verdict::Ok);
        let behind = judge_clock(Some(42.0));
        assert_eq!(behind.verdict, Verdict::Warning);
        assert!(behind.found.contains("42 s behind Keystone's"), "{behind:?}");
        assert!(judge_clock(Some(-42.0)).found.contains("42 s ahead of Keystone's"));
        assert_eq!(judge_clock(None).verdict, Verdict::LeftOut);
    }

    #[test]
    fn a_refused_login_names_the_user_and_no_secret() {
        let auth = config(&[]).cloud.placement.auth.unwrap();
        let refused = |status| Error::Refused {
            service: "keystone",
            method: "POST".to_owned(),
            path: "/v3/auth/tokens".to_owned(),
            status,
            code: None,
            message: "The request you have made requires authentication.".to_owned(),
            request_id: None,
        };
        let finding = judge_login(&auth, Some(&refused(401)));
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.found.starts_with("application credential 1 at http://h/v3: keystone refused"), "{finding:?}");
        assert!(finding.advice.as_ref().unwrap().contains("password"), "{finding:?}");
        assert!(!format!("{finding:?}").contains("s3cret"), "{finding:?}");
        assert!(judge_login(&auth, Some(&refused(404))).advice.unwrap().contains("auth_url"));
        assert_eq!(judge_login(&auth, None).found, "application credential 1 at http://h/v3: logged in");
    }
}
