//! A channel: what a client gets that asks for no terminal. `docs/channel.md` is the protocol.
//!
//! | file | what |
//! |---|---|
//! | `request` | the line that says what is wanted |
//! | `frames` | the bytes on the wire |
//! | `relay` | frames to and from what was wanted, until its end |
//!
//! Nova's proxy takes whatever either side sends and keeps it in memory until the other side reads. So either side sends only
//! as much as the other has room for (a window), and always reads: that is how the agent sees a client go.

mod frames;
mod relay;
mod request;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    frames::{Frames, Kind, Sender},
    relay::{Ending, Window, Work},
    request::Wanted,
};
use super::opening::{Opening, VERSION};
use crate::docker::{Docker, Error, Piece, Pieces, Source};

pub(super) use relay::End;

/// How long a client may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a client may take to hear the last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// Answers one request, until its end, the client's or `stopping`; nothing of it stays.
pub(super) async fn run(
    mut client: TcpStream,
    opening: Opening,
    docker: &Docker,
    instance: Uuid,
    stopping: &CancellationToken,
) -> End {
    if client.write_all(&opening.answer()).await.is_err() {
        return End::Client;
    }
    if opening.version != VERSION {
        // It has been told which version there is.
        client.shutdown().await.unwrap_or_default();
        return End::Refused;
    }
    let mut frames = Frames::new(&opening.rest);
    let asked = tokio::select! {
        asked = tokio::time::timeout(REQUEST, frames.line(&mut client, request::LONGEST)) => asked,
        () = stopping.cancelled() => return End::Agent,
    };
    let wanted = match asked {
        Ok(Ok(line)) => request::parse(&line),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => Err(error.to_string()),
        Ok(Err(_)) => return End::Client,
        Err(_) => Err("nothing was asked for".to_owned()),
    };
    let work = match wanted {
        // What was begun half-way would stay, so this is not cut short.
        Ok(wanted) => begin(docker, instance, wanted).await.map_err(|error| super::words(&error)),
        Err(words) => Err(words),
    };
    match work {
        Ok(work) => relay::run(client, frames, work, stopping).await,
        Err(words) => {
            let mut sender = Sender::new(&mut client);
            if sender.send(Kind::Result, &result(&Err(words))).await.is_ok() {
                relay::farewell(&mut client).await;
            }
            End::Refused
        }
    }
}

async fn begin(docker: &Docker, instance: Uuid, wanted: Wanted) -> Result<Work, Error> {
    // It is asked again: the instance may have another container by now.
    let offer = docker.offer(instance).await?;
    Ok(match wanted {
        Wanted::Exec(command) => {
            let exec = docker.exec(&offer, command).await?;
            let window = Window::Exec(exec.window);
            Work { input: exec.input, output: exec.output, window, ending: Ending::Exec(exec.running) }
        }
        Wanted::Attach { stdin, size, logs } => {
            if let Some(size) = size {
                docker.resize(&offer, size).await;
            }
            let attached = docker.attach_to(&offer, logs).await?;
            let (input, output) = (stdin.then_some(attached.input), relay::losing(attached.output));
            Work {
                input,
                output,
                window: Window::Process(docker.clone(), Box::new(offer)),
                ending: Ending::Process(attached.end),
            }
        }
        Wanted::Logs(part) => Work::showing(docker.follow_log(&offer, &part).await?),
        Wanted::Top => Work::showing(once(&docker.processes(&offer).await?)),
        Wanted::Events { since } => Work::showing(docker.happenings(&offer, since.as_deref())),
    })
}

/// A line of JSON, in pieces.
fn once(value: &serde_json::Value) -> Pieces {
    let bytes = Bytes::from(format!("{value}\n"));
    let pieces: Vec<_> = bytes.chunks(16 * 1024).map(|chunk| bytes.slice_ref(chunk)).collect();
    stream::iter(pieces).map(|bytes| Ok(Piece { source: Source::Output, bytes })).boxed()
}

fn result(end: &Result<i64, String>) -> Vec<u8> {
    match end {
        Ok(code) => serde_json::json!({"exit_code": code}),
        Err(words) => serde_json::json!({"error": words}),
    }
    .to_string()
    .into_bytes()
}
