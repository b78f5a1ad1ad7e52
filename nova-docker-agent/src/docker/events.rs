//! Docker's event stream, as events of our containers and of Docker itself.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::{Stream, StreamExt};
use tokio::sync::{broadcast, mpsc};
use uuid::Uuid;

use super::state::ended;
use super::{Docker, Error, labels};
use crate::guest::{Event, EventKind, Health, PowerState};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// Events that wait for the reader before Docker's stream is left to wait.
const BUFFER: usize = 256;

impl Docker {
    /// What happens to our containers from now on. The stream never ends: it reconnects by itself, and then compares what
    /// runs with what it had last told, since a Docker that was restarted has forgotten its events. A change that was undone
    /// while the connection was lost is not told.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + use<> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let watcher = Watcher { docker: self.clone(), known: HashMap::new(), lost: false, sender };
        let since = now();
        let task = AbortOnDrop(tokio::spawn(watcher.run(since)));
        let scripts = self.inner.scripts.subscribe();
        futures::stream::unfold((receiver, scripts, task), |(mut receiver, mut scripts, task)| async move {
            let event = tokio::select! {
                event = receiver.recv() => event?,
                uuid = script_end(&mut scripts) => Event::Guest { uuid, kind: EventKind::ScriptEnded },
            };
            Some((event, (receiver, scripts, task)))
        })
    }
}

/// The instance whose script has ended next.
async fn script_end(scripts: &mut broadcast::Receiver<Uuid>) -> Uuid {
    loop {
        match scripts.recv().await {
            Ok(uuid) => return uuid,
            // Who reads as slowly as that finds it when it looks at the instance for another reason.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The reader has gone.
struct Closed;

/// Why a connection is over.
enum Broken {
    Docker(Error),
    Closed,
}

impl From<Closed> for Broken {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Docker(error)
    }
}

/// What the reader knows of an instance.
struct Known {
    state: PowerState,
    /// By an event, not by itself: an event that Docker repeats changes nothing then.
    told: bool,
}

struct Watcher {
    docker: Docker,
    known: HashMap<Uuid, Known>,
    /// The reader was told that Docker does not answer.
    lost: bool,
    sender: mpsc::Sender<Event>,
}

impl Watcher {
    async fn run(mut self, since: String) {
        let mut since = Some(since);
        let mut delay = FIRST_RETRY;
        loop {
            match self.follow(&mut since, &mut delay).await {
                Broken::Closed => return,
                Broken::Docker(error) => {
                    tracing::warn!(%error, retry = ?delay, "Docker's events broke off");
                    if self.tell_lost().await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LAST_RETRY);
        }
    }

    /// One connection, until it breaks. `since` is taken by the first one that comes up; the later ones compare.
    async fn follow(&mut self, since: &mut Option<String>, delay: &mut Duration) -> Broken {
        match self.try_follow(since, delay).await {
            Err(broken) => broken,
            Ok(()) => Broken::Docker(Error::Unavailable {
                host: self.docker.engine().host.clone(),
                reason: "Docker closed the connection".to_owned(),
            }),
        }
    }

    async fn try_follow(&mut self, since: &mut Option<String>, delay: &mut Duration) -> Result<(), Broken> {
        // Taken before the comparison: a change during it is reported by one of the two, and once (see `tell`).
        let start = since.clone().unwrap_or_else(now);
        if since.is_none() {
            // It may have been upgraded.
            self.docker.engine().agree().await?;
        }
        self.compare(since.is_some()).await?;
        *since = None;
        *delay = FIRST_RETRY;
        if std::mem::take(&mut self.lost) {
            self.sender.send(Event::DockerBack).await.map_err(|_| Closed)?;
        }
        let mut filters = labels::filter();
        filters.insert("type", vec!["container"]);
        filters.insert("event", vec!["start", "die", "pause", "unpause", "destroy", "health_status"]);
        let options = EventsOptionsBuilder::default().since(&start).filters(&filters).build();
        let engine = self.docker.engine().clone();
        let mut events = engine.docker.events(Some(options)).boxed();
        while let Some(message) = events.next().await {
            let message = message.map_err(|error| engine.error("report", "events", error))?;
            if let Some((uuid, kind)) = self.understand(&message).await {
                self.tell(uuid, kind).await?;
            }
        }
        Ok(())
    }

    /// Compares Docker's containers with the events so far. The first time it only records them.
    async fn compare(&mut self, first: bool) -> Result<(), Broken> {
        let present = self.docker.list().await?;
        let present: HashMap<Uuid, PowerState> = present.into_iter().map(|guest| (guest.uuid, guest.state)).collect();
        if first {
            self.known = present.into_iter().map(|(uuid, state)| (uuid, Known { state, told: false })).collect();
            return Ok(());
        }
        let gone: Vec<Uuid> = self.known.keys().filter(|uuid| !present.contains_key(uuid)).copied().collect();
        for uuid in gone {
            self.tell(uuid, EventKind::Destroyed).await?;
        }
        for (uuid, state) in present {
            let known = self.known.get(&uuid).map_or(PowerState::Created, |known| known.state);
            if let Some(kind) = difference(known, state) {
                let kind = self.with_cause(uuid, kind).await;
                self.tell(uuid, kind).await?;
            }
        }
        Ok(())
    }

    /// The list does not say what a container died of.
    async fn with_cause(&self, uuid: Uuid, kind: EventKind) -> EventKind {
        match (kind, self.docker.state(uuid).await) {
            (EventKind::Died { .. }, Ok(Some(PowerState::Crashed { exit_code, oom }))) => {
                EventKind::Died { exit_code, oom }
            }
            _ => kind,
        }
    }

    /// A connection that merely ended is made anew at once, and nothing was lost.
    async fn tell_lost(&mut self) -> Result<(), Closed> {
        if self.lost || self.docker.engine().agree().await.is_ok() {
            return Ok(());
        }
        self.lost = true;
        self.sender.send(Event::DockerLost).await.map_err(|_| Closed)
    }

    async fn tell(&mut self, uuid: Uuid, kind: EventKind) -> Result<(), Closed> {
        let state = match kind {
            // Docker tells each finding once.
            EventKind::Health(_) | EventKind::ScriptEnded => {
                return self.sender.send(Event::Guest { uuid, kind }).await.map_err(|_| Closed);
            }
            EventKind::Started | EventKind::Unpaused => Some(PowerState::Running),
            EventKind::Paused => Some(PowerState::Paused),
            EventKind::Died { exit_code, oom } => Some(ended(exit_code, oom)),
            EventKind::Destroyed => None,
        };
        let before = match state {
            Some(state) => self.known.insert(uuid, Known { state, told: true }),
            None => self.known.remove(&uuid),
        };
        if let (Some(Known { state: before, told: true }), Some(after)) = (before, state)
            && difference(before, after).is_none()
        {
            return Ok(());
        }
        self.sender.send(Event::Guest { uuid, kind }).await.map_err(|_| Closed)
    }

    async fn understand(&self, message: &EventMessage) -> Option<(Uuid, EventKind)> {
        let actor = message.actor.as_ref()?;
        let attributes = actor.attributes.as_ref()?;
        let uuid = Uuid::parse_str(attributes.get(labels::INSTANCE)?).ok()?;
        // What happens to a container that was set aside is not about the instance.
        if attributes.get("name").is_some_and(|name| *name != labels::container_name(uuid)) {
            return None;
        }
        let kind = match message.action.as_deref()? {
            "start" => EventKind::Started,
            "pause" => EventKind::Paused,
            "unpause" => EventKind::Unpaused,
            "destroy" => EventKind::Destroyed,
            "die" => {
                let exit_code = attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or_default();
                // Docker's "oom" event is about any process; whether the first one died of it, the container's state tells.
                self.with_cause(uuid, EventKind::Died { exit_code, oom: false }).await
            }
            action => EventKind::Health(Health::of(action.strip_prefix("health_status: ")?)?),
        };
        Some((uuid, kind))
    }
}

/// What must have happened between two states.
fn difference(known: PowerState, now: PowerState) -> Option<EventKind> {
    let running = |state: PowerState| matches!(state, PowerState::Running | PowerState::Paused);
    match (known, now) {
        (PowerState::Running, PowerState::Paused) => Some(EventKind::Paused),
        (PowerState::Paused, PowerState::Running) => Some(EventKind::Unpaused),
        (before, after) if running(before) == running(after) => None,
        (_, PowerState::Running | PowerState::Paused) => Some(EventKind::Started),
        (_, PowerState::Stopped { exit_code }) => Some(EventKind::Died { exit_code, oom: false }),
        (_, PowerState::Crashed { exit_code, oom }) => Some(EventKind::Died { exit_code, oom }),
        // As Docker says it of those that it sees go to disk.
        (_, PowerState::Suspended) => Some(EventKind::Died { exit_code: 137, oom: false }),
        (_, PowerState::Created) => None,
    }
}

/// Seconds and nanoseconds, as Docker's `since` takes them.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_docker_is_told_as_what_it_did_to_the_containers() {
        let stopped = PowerState::Stopped { exit_code: 137 };
        let died = EventKind::Died { exit_code: 137, oom: false };
        assert_eq!(difference(PowerState::Running, stopped), Some(died));
        assert_eq!(difference(PowerState::Paused, stopped), Some(died));
        assert_eq!(difference(stopped, PowerState::Running), Some(EventKind::Started));
        assert_eq!(difference(stopped, stopped), None);
        assert_eq!(difference(PowerState::Created, PowerState::Created), None);
    }
}
