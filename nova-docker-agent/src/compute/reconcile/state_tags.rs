//! Tags of servers that say what their containers are: `exit:CODE` when one has ended, `health:FINDING` while one with a check runs,
//! `user_data:CODE` when the script of its user data has ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::compute::{Compute, arguments::instance_uuid, error::Error};
use crate::{
    guest::{GuestSummary, Health, PowerState},
    messaging::Context,
    objects::Instance,
};

const EXIT: &str = "exit:";
const HEALTH: &str = "health:";
const SCRIPT: &str = "user_data:";
/// Nova's limit for a server (`MAX_TAG_COUNT`). Only its API keeps it.
const MOST: usize = 50;
/// A check may come to another finding every second; Nova is not told more often than this.
const PAUSE: Duration = Duration::from_secs(10);

/// When the findings of checks are looked at, or were.
#[derive(Debug, Default)]
pub(in crate::compute) struct Looks(Mutex<HashMap<Uuid, Instant>>);

impl Looks {
    /// How long a look at the instance is to wait; none where one is to come anyway.
    fn claim(&self, uuid: Uuid, now: Instant) -> Option<Duration> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, at| *at + PAUSE > now);
        let at = match looks.get(&uuid) {
            Some(at) if *at > now => return None,
            Some(at) => *at + PAUSE,
            None => now,
        };
        looks.insert(uuid, at);
        Some(at - now)
    }
}

impl Compute {
    /// A check has come to another finding, or a script has ended. What it is by then is told, at once or after a while.
    pub(in crate::compute) fn finding_changed(self: &Arc<Self>, uuid: Uuid) {
        if !self.config.docker.state_tags {
            return;
        }
        let Some(wait) = self.health_looks.claim(uuid, Instant::now()) else { return };
        let compute = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            compute.recovered(uuid).await;
            let _lock = compute.locks.lock(uuid).await;
            compute.renew_state_tags(uuid).await;
        });
    }

    /// As [`sync_state_tags`](Self::sync_state_tags), where the instance is not at hand.
    pub(in crate::compute) async fn renew_state_tags(&self, uuid: Uuid) {
        if !self.config.docker.state_tags {
            return;
        }
        match self.conductor.instance(&Context::admin(), &uuid.to_string(), &["tags"]).await {
            Ok(instance) if instance.host().is_none_or(|host| host == self.host) => {
                match self.driver.guest(uuid).await {
                    Ok(guest) => self.sync_state_tags(&instance, guest.as_ref()).await,
                    Err(error) => {
                        warn!(%error, instance = %uuid, "cannot look at the container for tags; trying again later")
                    }
                }
            }
            Ok(_) => {}
            Err(error) if error.class() == Some("InstanceNotFound") => {}
            Err(error) => warn!(%error, instance = %uuid, "cannot read the instance's tags; trying again later"),
        }
    }

    /// Brings the tags of an instance, read with them, to what its container is. With the instance's lock held, so that nobody
    /// tells of an older state later. What fails is repeated with the next synchronization of power states.
    pub(in crate::compute) async fn sync_state_tags(&self, instance: &Instance, guest: Option<&GuestSummary>) {
        if !self.config.docker.state_tags {
            return;
        }
        match self.try_sync_state_tags(instance, guest).await {
            Ok(()) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => {
                warn!(%error, instance = instance.uuid(), "cannot write the instance's tags; trying again later");
            }
        }
    }

    async fn try_sync_state_tags(&self, instance: &Instance, guest: Option<&GuestSummary>) -> Result<(), Error> {
        let Some(tags) = instance.tags() else { return Ok(()) };
        let uuid = instance_uuid(instance)?;
        let Changes { stale, new, without_room } = changes(&tags, &wanted(guest));
        let context = Context::admin();
        for tag in &stale {
            self.conductor.remove_tag(&context, instance.uuid(), tag).await?;
        }
        for tag in &new {
            self.conductor.add_tag(&context, instance.uuid(), tag).await?;
        }
        if !(stale.is_empty() && new.is_empty()) {
            debug!(?stale, ?new, instance = %uuid, "tags written");
        }
        if !without_room.is_empty() {
            info!(tags = ?without_room, instance = %uuid, "the server has {MOST} tags, as many as Nova allows; not written");
        }
        Ok(())
    }
}

/// The tags that tell of a container, the more important one first.
fn wanted(guest: Option<&GuestSummary>) -> Vec<String> {
    let exit_code = match guest.map(|guest| guest.state) {
        Some(PowerState::Stopped { exit_code } | PowerState::Crashed { exit_code, .. }) => Some(exit_code),
        _ => None,
    };
    let health = guest.and_then(|guest| guest.health);
    let exit = exit_code.map(|code| format!("{EXIT}{code}"));
    let script = guest.and_then(|guest| guest.script).map(|code| format!("{SCRIPT}{code}"));
    let health = health.map(|health| format!("{HEALTH}{}", health.as_str()));
    exit.into_iter().chain(script).chain(health).collect()
}

/// Whether a tag is one that tells of a container. All others are their users'.
fn is_ours(tag: &str) -> bool {
    let is_code = |code: &str| code.parse::<i64>().is_ok_and(|it| it.to_string() == code);
    let is_exit = [EXIT, SCRIPT].iter().any(|kind| tag.strip_prefix(kind).is_some_and(is_code));
    is_exit || tag.strip_prefix(HEALTH).is_some_and(|word| Health::of(word).is_some())
}

/// What is to be done to the tags of a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    stale: Vec<String>,
    new: Vec<String>,
    /// What would be new, if the server had fewer tags.
    without_room: Vec<String>,
}

fn changes(tags: &[String], wanted: &[String]) -> Changes {
    let (ours, of_users): (Vec<&String>, Vec<&String>) = tags.iter().partition(|tag| is_ours(tag));
    let stale: Vec<String> = ours.into_iter().filter(|tag| !wanted.contains(tag)).cloned().collect();
    let kept = wanted.iter().filter(|tag| tags.contains(tag)).count();
    let room = MOST.saturating_sub(of_users.len() + kept);
    let mut new: Vec<String> = wanted.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
    let without_room = new.split_off(room.min(new.len()));
    Changes { stale, new, without_room }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn guest(state: PowerState, health: Option<Health>) -> GuestSummary {
        GuestSummary { uuid: Uuid::nil(), state, health, script: None, compute_id: String::new() }
    }

    #[test]
    fn a_container_that_has_ended_has_an_exit_code_and_one_that_runs_has_not() {
        let of = |state| wanted(Some(&guest(state, None)));
        assert_eq!(of(PowerState::Stopped { exit_code: 0 }), ["exit:0"]);
        assert_eq!(of(PowerState::Crashed { exit_code: 137, oom: true }), ["exit:137"]);
        for state in [PowerState::Created, PowerState::Running, PowerState::Paused] {
            assert!(of(state).is_empty(), "{state:?}");
        }
        assert_eq!(wanted(Some(&guest(PowerState::Running, Some(Health::Starting)))), ["health:starting"]);
        let ran = GuestSummary { script: Some(3), ..guest(PowerState::Running, None) };
        assert_eq!(wanted(Some(&ran)), ["user_data:3"]);
        assert!(wanted(None).is_empty(), "there is no container");
    }

    #[test]
    fn only_tags_in_exactly_our_form_are_ours() {
        for tag in
            ["exit:0", "exit:255", "exit:-1", "user_data:0", "health:healthy", "health:unhealthy", "health:starting"]
        {
            assert!(is_ours(tag), "{tag}");
        }
        for tag in [
            "exit:",
            "exit:007",
            "exit:+1",
            "exit:strategy",
            "user_data:x",
            "Exit:0",
            "health:",
            "health:poor",
            "health",
            "web",
        ] {
            assert!(!is_ours(tag), "{tag}");
        }
    }

    #[test]
    fn a_tag_of_each_kind_takes_the_place_of_the_former_one_and_others_stay() {
        let tags = texts(&["compose:shop", "exit:1", "exit:0", "exit:soon", "health:healthy"]);
        let told = changes(&tags, &texts(&["health:unhealthy"]));
        assert_eq!(
            (told.stale, told.new),
            (texts(&["exit:1", "exit:0", "health:healthy"]), texts(&["health:unhealthy"]))
        );
        assert_eq!(changes(&texts(&["web", "exit:0"]), &texts(&["exit:0"])), Changes::default(), "nothing has changed");
    }

    #[test]
    fn a_server_has_no_more_tags_than_nova_allows() {
        let full: Vec<String> = (0..MOST).map(|number| format!("user:{number}")).collect();
        let told = changes(&full, &texts(&["exit:0"]));
        assert_eq!((told.new, told.without_room), (vec![], texts(&["exit:0"])));
        let (_, rest) = full.split_first().unwrap();
        let told = changes(rest, &texts(&["exit:0", "health:healthy"]));
        assert_eq!((told.new, told.without_room), (texts(&["exit:0"]), texts(&["health:healthy"])));
        let kept = [rest, &texts(&["exit:0"])].concat();
        assert_eq!(changes(&kept, &texts(&["exit:1"])).new, texts(&["exit:1"]), "it takes the place of the former one");
        let told = changes(&kept, &texts(&["exit:0", "health:healthy"]));
        assert_eq!(told.without_room, texts(&["health:healthy"]));
    }

    #[test]
    fn a_check_that_changes_its_mind_all_the_time_is_looked_at_now_and_then_and_no_finding_is_missed() {
        let (looks, start) = (Looks::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let wait = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(looks.claim(Uuid::nil(), start), wait(0));
        assert_eq!(looks.claim(Uuid::nil(), at(1)), wait(9));
        assert_eq!(looks.claim(Uuid::nil(), at(2)), None, "a look is to come");
        assert_eq!(looks.claim(Uuid::max(), at(2)), wait(0), "another instance");
        assert_eq!(looks.claim(Uuid::nil(), at(10)), wait(10), "that look is under way and may have missed it");
        assert_eq!(looks.claim(Uuid::nil(), at(40)), wait(0));
    }
}
