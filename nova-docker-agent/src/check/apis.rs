//! Placement and Glance: where they are, their versions, and whether we may ask.

use std::sync::Arc;

use super::finding::Finding;
use super::{Door, listed};
use crate::cloud::{Caller, Cloud, Error, Greeting};
use crate::config::Config;

const PLACEMENT: &str = "placement";
const GLANCE: &str = "glance";
/// The newest microversion that the agent asks for.
const NEEDED: (u32, u32) = (1, 28);

pub(super) async fn placement(cloud: Cloud, config: Arc<Config>) -> Vec<Finding> {
    let placement = &cloud.placement;
    let caller = Caller::own();
    let (greeting, provider) = tokio::join!(placement.greeting(), placement.provider_named(&caller, &config.host));
    let known = match &provider {
        Ok(Some(provider)) => format!("this host is resource provider {}", provider.uuid),
        _ => "this host has no resource provider yet".to_owned(),
    };
    vec![match judge(PLACEMENT, greeting, provider.err()) {
        Ok(greeting) => judge_microversion(&greeting, &known),
        Err(finding) => finding,
    }]
}

pub(super) async fn glance(cloud: Cloud, door: Door) -> Vec<Finding> {
    let glance = &cloud.glance;
    let greeting = glance.greeting().await;
    // Behind the second door every request brings its user's token.
    let refusal = match door {
        Door::ComputeService => glance.list(&Caller::own(), &[], 1).await.err(),
        Door::ContainerDriver => None,
    };
    vec![
        judge(GLANCE, greeting, refusal)
            .map_or_else(|finding| finding, |greeting| Finding::ok(GLANCE, place(&greeting))),
    ]
}

fn place(greeting: &Greeting) -> String {
    format!("{}, {}", greeting.url, listed(&greeting.versions))
}

/// The greeting, or why the service is of no use.
pub(super) fn judge(
    check: &'static str,
    greeting: Result<Greeting, Error>,
    refusal: Option<Error>,
) -> Result<Greeting, Finding> {
    let first = || Finding::left_out(check, "the login at Keystone must work first");
    let greeting = greeting.map_err(|error| match &error {
        error if is_login(error) => first(),
        Error::Identity { .. } => Finding::failed(check, error.to_string(), misplaced(check)),
        _ => Finding::failed(
            check,
            error.to_string(),
            format!("see whether {check} runs there and is reached from this host, and cafile in [{check}]"),
        ),
    })?;
    let place = place(&greeting);
    if greeting.versions.is_empty() {
        let found = format!("{}: what answers there tells no versions", greeting.url);
        return Err(Finding::failed(check, found, misplaced(check)));
    }
    match refusal {
        None => Ok(greeting),
        Some(error) if is_login(&error) => Err(first()),
        Some(error @ Error::Identity { .. }) => {
            Err(Finding::left_out(check, format!("{place}; not asked more: {error}")))
        }
        Some(error) if error.is_forbidden() => Err(Finding::failed(
            check,
            format!("{place}: {error}"),
            "give the user the roles that nova-compute's user has there: `service`, or `admin` in older clouds",
        )),
        Some(error) => Err(Finding::failed(check, format!("{place}: {error}"), format!("see {check}'s log"))),
    }
}

/// Keystone gave no token: the login's own finding says more.
fn is_login(error: &Error) -> bool {
    matches!(error, Error::Refused { service: "keystone", .. } | Error::Unreachable { service: "keystone", .. })
}

fn misplaced(check: &str) -> String {
    format!("see `openstack catalog list`, and region_name, valid_interfaces and endpoint_override in [{check}]")
}

fn judge_microversion(greeting: &Greeting, known: &str) -> Finding {
    let found = format!("{}; {known}", place(greeting));
    let newest = greeting.newest.as_deref().and_then(|text| text.split_once('.'));
    let newest = newest.and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    if newest.is_some_and(|newest| newest < NEEDED) {
        let advice = format!("upgrade placement: the agent needs microversion {}.{}", NEEDED.0, NEEDED.1);
        return Finding::failed(PLACEMENT, found, advice);
    }
    Finding::ok(PLACEMENT, found)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn greeting(versions: &[&str], newest: Option<&str>) -> Greeting {
        let versions = versions.iter().map(|&version| version.to_owned()).collect();
        let url = "http://controller:8778/".parse().unwrap();
        Greeting { url, versions, newest: newest.map(str::to_owned), ahead: None }
    }

    fn refused(service: &'static str, status: u16) -> Error {
        let (method, path, message) = ("GET".to_owned(), "/".to_owned(), "no".to_owned());
        Error::Refused { service, method, path, status, code: None, message, request_id: None }
    }

    #[test]
    fn a_placement_older_than_what_the_agent_asks_for_fails() {
        let verdict = |newest| judge_microversion(&greeting(&["v1.0"], Some(newest)), "").verdict;
        assert_eq!(verdict("1.9"), Verdict::Failed);
        assert_eq!(verdict("1.28"), Verdict::Ok);
        assert_eq!(verdict("1.39"), Verdict::Ok);
    }

    #[test]
    fn each_failure_of_a_service_leads_to_its_cause() {
        let verdict = |greeting, refusal| judge(GLANCE, greeting, refusal).unwrap_err();
        let good = || Ok(greeting(&["v2.17"], None));
        let forbidden = verdict(good(), Some(refused("glance", 403)));
        assert!(forbidden.verdict == Verdict::Failed && forbidden.advice.unwrap().contains("roles"));
        assert_eq!(verdict(good(), Some(refused("keystone", 401))).verdict, Verdict::LeftOut);
        assert_eq!(verdict(good(), Some(refused("glance", 500))).advice.unwrap(), "see glance's log");
        let web_page = verdict(Ok(greeting(&[], None)), None);
        assert!(web_page.verdict == Verdict::Failed && web_page.found.contains("tells no versions"));
        let absent = Error::Identity { service: "keystone", reason: "the catalog has no endpoint".to_owned() };
        assert!(verdict(Err(absent), None).advice.unwrap().contains("openstack catalog list"));
        assert_eq!(verdict(Err(refused("keystone", 401)), None).verdict, Verdict::LeftOut);
    }
}
