//! What a user sees of an instance from outside: its log, its processes, what happens to it, and its first process.

use std::{collections::HashMap, io};

use bollard::{
    errors::Error as DockerError,
    models::EventMessage,
    query_parameters::{
        EventsOptionsBuilder, ResizeContainerTTYOptionsBuilder, TopOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{
    Docker, Error, Offer, Size, labels,
    pieces::{self, Piece, Pieces, Source},
    terminal::Input,
};

/// What is told of an instance. Others of Docker's events are of commands in it, with all their arguments.
const TOLD: [&str; 9] = ["start", "die", "stop", "pause", "unpause", "restart", "oom", "health_status", "destroy"];
/// As `ps` knows them. Users are numbers, since their names are the host's.
const COLUMNS: &str = "-o pid,uid,stime,tty,time,args";

/// A part of a log.
#[derive(Debug, Default)]
pub struct Part {
    /// The last lines only.
    pub tail: Option<u64>,
    /// From there on: seconds since 1970, perhaps with a fraction.
    pub since: Option<String>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// Whether it goes on until the container ends.
    pub follow: bool,
}

/// The first process, as seen from outside.
pub struct Attached {
    /// Its standard input, if it was started with an open one.
    pub input: Input,
    /// What it writes. Others may read the same: who does not read holds the process up for all of them.
    pub output: Pieces,
    /// How it ends.
    pub end: AbortOnDropHandle<Result<i64, Error>>,
}

impl Docker {
    /// A part of what the instance's processes have written, and will.
    ///
    /// # Errors
    /// Docker's.
    pub async fn follow_log(&self, offer: &Offer, part: &Part) -> Result<Pieces, Error> {
        let found = offer.found();
        let mut path = format!("/containers/{}/logs?stdout=1&stderr=1&tail=", found.id);
        path.push_str(&part.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()));
        for (wanted, parameter) in [(part.timestamps, "&timestamps=1"), (part.follow, "&follow=1")] {
            path.push_str(if wanted { parameter } else { "" });
        }
        if let Some(since) = &part.since {
            path.push_str("&since=");
            path.push_str(since);
        }
        let body = self.read_stream(&path, "read the log of container", &found.id).await?;
        Ok(if found.tty { pieces::of_terminal(body) } else { pieces::of_frames(body) })
    }

    /// The first process; `with_log` with all that it has written so far.
    ///
    /// # Errors
    /// Docker's.
    pub async fn attach_to(&self, offer: &Offer, with_log: bool) -> Result<Attached, Error> {
        let found = offer.found();
        let waiting = self.clone().exit_code(found.id.clone());
        let end = AbortOnDropHandle::new(tokio::spawn(waiting));
        let stream = self.attached(&found.id, with_log).await?;
        let (output, input) = tokio::io::split(stream);
        let output = if found.tty { pieces::of_terminal(output) } else { pieces::of_frames(output) };
        Ok(Attached { input, output, end })
    }

    async fn exit_code(self, id: String) -> Result<i64, Error> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut wait = self.engine().docker.wait_container(&id, Some(options));
        match wait.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            Some(Err(DockerError::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(self.engine().error("wait for container", &id, error)),
            None => Err(Error::Lacking { reason: "Docker does not tell how the container ended".to_owned() }),
        }
    }

    /// Tells the terminal of the first process the size of its window. All its viewers share it.
    pub async fn resize(&self, offer: &Offer, size: Size) {
        let options = ResizeContainerTTYOptionsBuilder::default().h(size.rows.into()).w(size.columns.into()).build();
        if let Err(error) = self.engine().docker.resize_container_tty(&offer.found().id, options).await {
            debug!(%error, "a terminal keeps its size");
        }
    }

    /// The instance's processes: `{"titles": [...], "processes": [[...], ...]}`, with their numbers in the container.
    ///
    /// # Errors
    /// Docker's.
    pub async fn processes(&self, offer: &Offer) -> Result<Value, Error> {
        let id = &offer.found().id;
        let options = TopOptionsBuilder::default().ps_args(COLUMNS).build();
        let listed = self.engine().docker.top_processes(id, Some(options)).await;
        let listed = listed.map_err(|error| self.engine().error("list the processes of container", id, error))?;
        let mut processes = listed.processes.unwrap_or_default();
        for process in &mut processes {
            if let Some(number) = process.first_mut() {
                *number = own_number(number).unwrap_or_else(|| "-".to_owned());
            }
        }
        Ok(json!({"titles": listed.titles.unwrap_or_default(), "processes": processes}))
    }

    /// What happens to the instance from now on, or since then, until it is gone: a line of JSON each.
    pub fn happenings(&self, offer: &Offer, since: Option<&str>) -> Pieces {
        let mut filters = HashMap::from([("type", vec!["container"]), ("event", TOLD.to_vec())]);
        let label = format!("{}={}", labels::INSTANCE, offer.instance());
        filters.insert("label", vec![&label]);
        let mut options = EventsOptionsBuilder::default().filters(&filters);
        if let Some(since) = since {
            options = options.since(since);
        }
        let engine = self.engine().clone();
        let events = engine.docker.events(Some(options.build()));
        let begin = (events.boxed(), engine, false);
        stream::try_unfold(begin, async |(mut events, engine, gone)| {
            let next = if gone { None } else { events.next().await };
            let Some(message) = next else { return Ok(None) };
            let message = message.map_err(|error| io::Error::other(engine.error("report", "events", error)))?;
            let gone = message.action.as_deref() == Some("destroy");
            let bytes = Bytes::from(format!("{}\n", line(&message)));
            Ok::<_, io::Error>(Some((Piece { source: Source::Output, bytes }, (events, engine, gone))))
        })
        .boxed()
    }
}

fn line(message: &EventMessage) -> Value {
    let nanoseconds = message.time_nano.unwrap_or_default();
    let time = jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default();
    let attributes = message.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let exit_code = attributes.and_then(|all| all.get("exitCode")?.parse::<i64>().ok());
    let mut told = json!({"time": time.to_string(), "event": message.action.as_deref().unwrap_or_default()});
    if let Some(code) = exit_code {
        told["exit_code"] = code.into();
    }
    told
}

/// The number of a process in the innermost namespace.
fn own_number(number: &str) -> Option<String> {
    let number: u32 = number.parse().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().next_back().map(str::to_owned)
}
