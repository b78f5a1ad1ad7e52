//! The listener: from a connection to a session.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tracing::{Instrument as _, debug, info, info_span, warn};
use uuid::Uuid;

use super::{
    Shared, channel, handshake,
    opening::{Opening, Wish, wish},
    session::{self, End},
    words,
};
use crate::docker::{Offer, Terminal};

/// How long a proxy may take to say its ticket.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections of all instances.
const MOST: usize = 256;
/// Connections of one instance.
const MOST_OF_ONE: usize = 16;
/// A peer that is silent for this long is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Pause after a connection that could not be taken: the process has no files left.
const PAUSE: Duration = Duration::from_millis(200);

const WELCOME: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n";

/// Takes connections for ever.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // More of those that say nothing wait in the kernel.
        let Ok(permit) = shared.handshakes.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot take a connection to a console");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let work = {
            let shared = shared.clone();
            async move {
                let entered = enter(stream, &shared).await;
                drop(permit);
                if let Some((stream, early, instance)) = entered {
                    serve(stream, early, instance, &shared).await;
                }
            }
        };
        shared.tasks.spawn(work.instrument(info_span!("console", %peer)));
    }
}

/// Lets the peer in, or shows it the door; its instance, and what it has typed already.
async fn enter(mut stream: TcpStream, shared: &Shared) -> Option<(TcpStream, Vec<u8>, Uuid)> {
    let request = tokio::select! {
        request = tokio::time::timeout(HANDSHAKE, handshake::read(&mut stream)) => request,
        () = shared.stopping.cancelled() => return None,
    };
    let request = match request {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => {
            debug!(%error, "a connection that asks for no console");
            return None;
        }
        Err(_) => {
            debug!("a connection that asks for nothing");
            return None;
        }
    };
    let instance = shared.tickets.redeem(&request.path);
    let answer = if instance.is_some() { WELCOME } else { REFUSED };
    let answered = stream.write_all(answer).await;
    if instance.is_none() {
        warn!("a console was asked for with a ticket that is wrong or too old");
    }
    answered.ok()?;
    Some((stream, request.rest, instance?))
}

async fn serve(mut stream: TcpStream, mut typed: Vec<u8>, instance: Uuid, shared: &Arc<Shared>) {
    keep_alive(&stream);
    let counted = Counted::new(shared.clone(), instance);
    let begun = match &counted {
        Some(_) => begin(&mut stream, &mut typed, instance, shared).await,
        None => Err("there are too many connections; close one of them and try again".to_owned()),
    };
    match begun {
        Ok(Begun::Channel(opening)) => serve_channel(stream, opening, instance, shared).await,
        Ok(Begun::Terminal(terminal)) => {
            info!(%instance, "a console is open");
            let end = session::run(stream, typed, terminal, &shared.stopping).await;
            info!(%instance, %end, "a console is closed");
            if let End::Channel(stream, opening) = end {
                serve_channel(stream, opening, instance, shared).await;
            }
        }
        Err(reason) => {
            info!(%instance, reason, "a console cannot be opened");
            // Nova's proxy shows its user no status, but what a terminal would show.
            let said = stream.write_all(format!("\r\n{reason}\r\n").as_bytes()).await;
            if said.is_ok() {
                stream.shutdown().await.unwrap_or_default();
            }
        }
    }
}

async fn serve_channel(stream: TcpStream, opening: Opening, instance: Uuid, shared: &Shared) {
    info!(%instance, "a channel is open");
    let end = channel::run(stream, opening, &shared.docker, instance, &shared.stopping).await;
    info!(%instance, %end, "a channel is closed");
}

/// What a client gets at first.
enum Begun {
    Terminal(Terminal),
    Channel(Opening),
}

/// Begins what the client wants. One that has not said so yet gets a terminal: a browser says nothing until somebody types. One
/// that says so later, since it is far away, still gets its channel.
async fn begin(stream: &mut TcpStream, typed: &mut Vec<u8>, instance: Uuid, shared: &Shared) -> Result<Begun, String> {
    let mut offer = std::pin::pin!(shared.docker.offer(instance));
    let offered = tokio::select! {
        biased;
        wanted = wish(stream, typed) => match wanted {
            Wish::Channel(opening) => return Ok(Begun::Channel(opening)),
            Wish::Terminal => offer.await,
        },
        offered = &mut offer => offered,
    };
    let offer: Offer = offered.map_err(|error| words(&error))?;
    // A shell that was begun half-way would stay, so this is not cut short.
    let terminal = shared.docker.terminal(&offer).await.map_err(|error| words(&error))?;
    Ok(Begun::Terminal(terminal))
}

/// A peer that is gone without a word must not keep a shell.
fn keep_alive(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(4);
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_nodelay(true)) {
        debug!(%error, "cannot set the options of a connection");
    }
}

/// A place among the connections of an instance.
struct Counted {
    shared: Arc<Shared>,
    instance: Uuid,
}

impl Counted {
    fn new(shared: Arc<Shared>, instance: Uuid) -> Option<Self> {
        let mut sessions = shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = sessions.values().sum();
        let own = sessions.get(&instance).copied().unwrap_or_default();
        if all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        sessions.insert(instance, own + 1);
        drop(sessions);
        Some(Self { shared, instance })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut sessions = self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sessions.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.instance);
            }
        }
    }
}
