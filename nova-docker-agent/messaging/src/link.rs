//! A connection that reconnects by itself.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, RustlsConnector, TLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use rand::seq::SliceRandom;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::backoff::Backoff;
use super::config::Login;
use super::socket::Socket;
use super::url::HostAddress;
use super::{Error, TransportConfig, tls};

/// How long one attempt to connect to one host may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the broker may take to agree to the end of a connection.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Octets in a frame. lapin keeps 64 of them for each connection; with the broker's 128 KiB that were 8 MiB.
const FRAME_SIZE: u32 = 16 * 1024;

/// A connection to one of the brokers, and another one whenever it is lost.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    closing: CancellationToken,
    done: CancellationToken,
}

#[derive(Clone)]
enum State {
    /// No connection; what the last attempt failed with.
    Down(String),
    Up(Arc<Session>),
}

/// The time between a connection and its loss.
pub(super) struct Session {
    connection: Connection,
    socket: Socket,
    /// Changes whenever the broker takes no messages at this time, or takes them again.
    blocked: watch::Sender<()>,
    lost: CancellationToken,
    /// Somebody had an error on this session: it may be lost without the supervisor having been told.
    suspected: Notify,
}

impl Link {
    /// Begins to connect, and goes on in the background until [`Self::close`]. `purpose` is for logs and for the broker's
    /// list of connections.
    pub(super) async fn start(config: &TransportConfig, purpose: &'static str) -> Result<Self, Error> {
        let (sender, state) = watch::channel(State::Down("not connected yet".to_owned()));
        let (closing, done) = (CancellationToken::new(), CancellationToken::new());
        let mut supervisor = Supervisor::new(config, purpose, sender, closing.clone()).await?;
        supervisor.hosts.shuffle(&mut rand::rng());
        let finished = done.clone().drop_guard();
        tokio::spawn(async move {
            supervisor.run().await;
            drop(finished);
        });
        Ok(Self { state, closing, done })
    }

    /// The session, as soon as there is one.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Error::Closed),
            up = state.wait_for(|state| matches!(state, State::Up(_))) => match up.as_deref() {
                Ok(State::Up(session)) => Ok(session.clone()),
                _ => Err(Error::Closed),
            },
        }
    }

    /// The session, or why there is none at `deadline`.
    pub(super) async fn session_before(&self, deadline: Instant) -> Result<Arc<Session>, String> {
        match tokio::time::timeout_at(deadline, self.session()).await {
            Ok(session) => session.map_err(|error| error.to_string()),
            Err(_) => Err(match &*self.state.borrow() {
                State::Down(last) => last.clone(),
                State::Up(_) => "connected too late".to_owned(),
            }),
        }
    }

    pub(super) fn connected(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_)) && !self.closing.is_cancelled()
    }

    /// Resolves when [`Self::close`] was called.
    pub(super) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Ends the connection when the guard is dropped.
    pub(super) fn close_on_drop(&self) -> DropGuard {
        self.closing.clone().drop_guard()
    }

    /// Ends the connection for good.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.done.cancelled().await;
    }
}

impl Session {
    /// A new channel.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await.inspect_err(|_| self.suspected.notify_one())
    }

    /// Resolves when the connection is gone.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Ends the connection at once, with all that still waits to be sent on it.
    pub(super) fn abort(&self) {
        self.socket.abort();
    }

    /// Resolves when the broker takes messages. Those that are given to the library at another time wait in it, and are
    /// sent when nobody wants them any more.
    pub(super) async fn unblocked(&self) {
        let mut blocked = self.blocked.subscribe();
        while self.connection.status().blocked() && blocked.changed().await.is_ok() {}
    }

    /// To be called after an error of a channel, in case it was the connection's.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }
}

struct Supervisor {
    config: TransportConfig,
    purpose: &'static str,
    connector: Option<Arc<RustlsConnector>>,
    /// In the order in which they are tried.
    hosts: Vec<HostAddress>,
    next: usize,
    /// After each connection that was lost, and after each round of the hosts that failed.
    pauses: Backoff,
    state: watch::Sender<State>,
    closing: CancellationToken,
}

/// Connects once to each broker and hangs up; why it could not.
pub(super) async fn try_each(
    config: &TransportConfig,
    purpose: &'static str,
) -> Result<Vec<(HostAddress, Result<(), String>)>, Error> {
    let (state, _) = watch::channel(State::Down(String::new()));
    let supervisor = Supervisor::new(config, purpose, state, CancellationToken::new()).await?;
    let attempts = supervisor.hosts.iter().map(async |host| {
        let tried = supervisor.attempt(host).await;
        if let Ok((connection, socket)) = &tried {
            hang_up(connection, socket, purpose).await;
        }
        (host.clone(), tried.map(drop))
    });
    Ok(futures::future::join_all(attempts).await)
}

/// Ends a connection: in agreement with the broker, or else at once.
///
/// A channel that is dropped at the same time can fail to be closed. The library then has an error of the connection,
/// sends nothing any more, and does not answer.
async fn hang_up(connection: &Connection, socket: &Socket, purpose: &'static str) {
    let mut failed = std::pin::pin!(connection.events_listener().filter_map(async |event| match event {
        Event::Error(error) if connection.status().errored() => Some(error),
        _ => None,
    }));
    let closed = tokio::select! {
        closed = connection.close(200, "closed by the client".into()) => closed.map_err(|error| error.to_string()),
        Some(error) = failed.next() => Err(error.to_string()),
        () = tokio::time::sleep(CLOSE_PATIENCE) => Err(format!("no answer within {} s", CLOSE_PATIENCE.as_secs())),
    };
    if let Err(reason) = closed {
        tracing::debug!(connection = purpose, reason, "ended a connection without the message broker's word");
        socket.abort();
    }
}

impl Supervisor {
    async fn new(
        config: &TransportConfig,
        purpose: &'static str,
        state: watch::Sender<State>,
        closing: CancellationToken,
    ) -> Result<Self, Error> {
        let connector = match config.tls.enabled {
            true => Some(Arc::new(tls::connector(&config.tls, config.url.hosts.len() == 1).await?)),
            false => None,
        };
        let pauses = Backoff::new(config.retry_interval, config.retry_interval_max);
        let (config, hosts) = (config.clone(), config.url.hosts.clone());
        Ok(Self { config, purpose, connector, hosts, next: 0, pauses, state, closing })
    }

    async fn run(&mut self) {
        let closing = self.closing.clone();
        loop {
            let session = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                session = self.connect() => session,
            };
            let (up, since) = (Arc::new(session), Instant::now());
            self.state.send_replace(State::Up(up.clone()));
            let reason = tokio::select! {
                biased;
                () = closing.cancelled() => None,
                reason = self.watch(&up) => Some(reason),
            };
            up.lost.cancel();
            let Some(reason) = reason else {
                self.state.send_replace(State::Down(Error::Closed.to_string()));
                hang_up(&up.connection, &up.socket, self.purpose).await;
                return;
            };
            up.abort();
            tracing::warn!(connection = self.purpose, %reason, "lost the connection to the message broker");
            self.state.send_replace(State::Down(reason));
            // The host that was lost is the last one to be tried.
            self.next += 1;
            if since.elapsed() >= self.config.retry_interval_max {
                self.pauses.reset();
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = tokio::time::sleep(self.pauses.next()) => {}
            }
        }
    }

    /// Tries the hosts in turn, with growing pauses after each round, until one answers.
    async fn connect(&mut self) -> Session {
        let mut failures = 0;
        loop {
            let host = self.hosts[self.next % self.hosts.len()].clone();
            let reason = match self.attempt(&host).await {
                Ok((connection, socket)) => {
                    tracing::info!(connection = self.purpose, %host, "connected to the message broker");
                    let (blocked, lost) = (watch::Sender::new(()), CancellationToken::new());
                    return Session { connection, socket, blocked, lost, suspected: Notify::new() };
                }
                Err(reason) => reason,
            };
            tracing::warn!(connection = self.purpose, %host, %reason, "cannot connect to the message broker; trying again");
            self.state.send_replace(State::Down(format!("{host}: {reason}")));
            self.next += 1;
            failures += 1;
            if failures % self.hosts.len() == 0 {
                tokio::time::sleep(self.pauses.next()).await;
            }
        }
    }

    /// One attempt, or why it failed.
    async fn attempt(&self, host: &HostAddress) -> Result<(Connection, Socket), String> {
        let socket = Socket::default();
        let attempt = timeout(CONNECT_TIMEOUT, self.connect_to(host, socket.clone())).await;
        let reason = match attempt {
            Ok(Ok(connection)) => return Ok((connection, socket)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        // The library has a thread for each connection, which waits for an answer on and on.
        socket.abort();
        Err(reason)
    }

    async fn connect_to(&self, host: &HostAddress, socket: Socket) -> lapin::Result<Connection> {
        let name = format!("{}:{}:{}", self.config.process, std::process::id(), self.purpose);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let (connector, silence) = (self.connector.clone(), self.config.silence());
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let stream = AMQPUriTcpExt::connect_with_config_async(&uri, TLSConfig::default(), &connecting);
            let stream = timeout(CONNECT_TIMEOUT, stream).await.map_err(std::io::Error::from)??;
            if let AsyncTcpStream::Plain(plain) = &stream {
                socket.opened(plain.get_ref(), silence)?;
            }
            match &connector {
                None => Ok(stream),
                Some(connector) => Ok(stream.into_rustls(connector, &uri.authority.host).await?),
            }
        };
        Connection::connector(self.uri(host), runtime, connect, properties).await
    }

    fn uri(&self, host: &HostAddress) -> AMQPUri {
        AMQPUri {
            // Always that of an unencrypted connection: TLS is put on top by `connect_to`.
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: host.username.clone(),
                    password: host.password.expose_secret().to_owned(),
                },
                host: host.host.clone(),
                port: host.port,
            },
            vhost: self.config.url.virtual_host.clone(),
            query: AMQPQueryString {
                heartbeat: Some(self.config.heartbeat_interval()),
                auth_mechanism: Some(match self.config.login {
                    Login::Amqplain => SASLMechanism::AMQPlain,
                    Login::Plain => SASLMechanism::Plain,
                    Login::External => SASLMechanism::External,
                }),
                frame_max: Some(FRAME_SIZE),
                ..AMQPQueryString::default()
            },
        }
    }

    /// Reports what the broker says about the connection until it is lost, and then why.
    async fn watch(&self, session: &Session) -> String {
        let mut events = std::pin::pin!(session.connection.events_listener());
        let status = session.connection.status();
        let mut reason = "no reason given".to_owned();
        // An error before the listener existed made no event.
        while status.connected() {
            tokio::select! {
                () = session.suspected.notified() => {}
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => {
                        session.blocked.send_replace(());
                        tracing::warn!(
                            connection = self.purpose,
                            reason = why,
                            "the message broker takes no messages at this time; they wait here"
                        );
                    }
                    Some(Event::ConnectionUnblocked) => {
                        session.blocked.send_replace(());
                        tracing::info!(connection = self.purpose, "the message broker takes messages again");
                    }
                    // May be a channel's: the loop condition tells.
                    Some(Event::Error(error)) => reason = error.to_string(),
                    Some(_) => {}
                    None => break,
                },
            }
        }
        reason
    }
}
