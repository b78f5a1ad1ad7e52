//! Serial consoles: what nova-serialproxy connects to.
//!
//! One listener serves every instance of the host. Whoever asks Nova for a console gets a token; beside it, Nova keeps a ticket
//! of ours (`internal_access_path`) that the user never sees. The proxy looks the token up and says the ticket when it connects:
//!
//! ```text
//! browser -- websocket, token --> nova-serialproxy -- CONNECT /ticket --> this listener --> terminal or shell
//! ```
//!
//! A ticket opens connections while it is valid; one that is open stays so, unless the proxy ends it (`[consoleauth]
//! enforce_session_timeout`). It ends with the container, the shell, the client or the agent, whichever goes first.
//!
//! | file | what |
//! |---|---|
//! | `ticket` | who may connect, to which instance, until when |
//! | `handshake` | what a proxy says first |
//! | `server` | the listener, and how many connections there may be |
//! | `opening` | what a client says first: is it a terminal, or does it want a channel |
//! | `session` | a terminal: bytes from here to there and back |
//! | `channel` | anything else: commands with their exit codes, logs, the first process, events |
//!
//! Nova's proxy passes bytes and nothing else, so a client that wants a channel has to ask for it in the same bytes.

mod channel;
mod handshake;
mod opening;
mod server;
mod session;
mod ticket;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use uuid::Uuid;

use self::ticket::Tickets;
use crate::{
    config::SerialConsoleConfig,
    docker::{Docker, Error},
};

/// Connections that have not said their ticket yet; more of them wait.
const HANDSHAKES: usize = 64;

/// Time to end the shells when the agent stops. One that Docker has not started yet cannot be ended.
const LAST_SHELLS: Duration = Duration::from_secs(20);

/// Why the listener did not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not this host's, or every port is taken.
    #[error(
        "[serial_console] proxyclient_address and port_range: cannot listen on {address}, ports {first} to {last}: {source}"
    )]
    Listen {
        /// The address.
        address: IpAddr,
        /// Of the range.
        first: u16,
        /// Of the range.
        last: u16,
        /// What became of the last attempt.
        source: std::io::Error,
    },
}

/// Where an instance's console can be reached, in Nova's words.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Address of this host.
    pub host: String,
    /// Port of the listener.
    pub port: u16,
    /// What opens it: whoever knows it has a terminal of the instance. For no log.
    pub internal_access_path: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, internal_access_path: _ } = self;
        formatter.debug_struct("Access").field("host", host).field("port", port).finish_non_exhaustive()
    }
}

/// The consoles of one host.
pub struct Consoles {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    docker: Docker,
    tickets: Tickets,
    handshakes: Arc<Semaphore>,
    /// Open connections of each instance.
    sessions: Mutex<HashMap<Uuid, usize>>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Consoles {
    /// Ends what a killed agent has left, and listens.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(config: &SerialConsoleConfig, docker: Docker) -> Result<Self, StartError> {
        if let Err(error) = docker.end_left_shells().await {
            warn!(%error, "shells of consoles may be left over from before");
        }
        let listener = bind(config.address, config.ports.clone()).await?;
        let address = listener.local_addr().map_err(|source| failed(config, source))?;
        let shared = Arc::new(Shared {
            docker,
            tickets: Tickets::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            sessions: Mutex::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let accepting = shared.stopping.clone().run_until_cancelled_owned(server::accept(listener, shared.clone()));
        shared.tasks.spawn(accepting);
        info!(%address, "serial consoles can be reached");
        Ok(Self { address, shared })
    }

    /// A new ticket for an instance's console, for connections within `life`.
    pub fn access(&self, instance: Uuid, life: Duration) -> Access {
        Access {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            internal_access_path: self.shared.tickets.issue(instance, life),
        }
    }

    /// Port of the listener.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends every connection, and the shells behind them.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(LAST_SHELLS, self.shared.tasks.wait()).await.is_err() {
            warn!("shells of consoles do not end; the next start ends them");
        }
    }
}

/// What a user is told.
fn words(error: &Error) -> String {
    match error {
        Error::NotFound { .. } => "the server is not on this host any more".to_owned(),
        error => error.to_string(),
    }
}

/// The first port that is free.
async fn bind(address: IpAddr, ports: RangeInclusive<u16>) -> Result<TcpListener, StartError> {
    let (first, last) = (*ports.start(), *ports.end());
    let mut source = std::io::Error::other("no port");
    for port in ports {
        match TcpListener::bind((address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => source = error,
            Err(source) => return Err(StartError::Listen { address, first, last, source }),
        }
    }
    Err(StartError::Listen { address, first, last, source })
}

fn failed(config: &SerialConsoleConfig, source: std::io::Error) -> StartError {
    StartError::Listen { address: config.address, first: *config.ports.start(), last: *config.ports.end(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_a_console_is_in_no_log() {
        let internal_access_path = "/s3cret".to_owned();
        let shown = format!("{:?}", Access { host: "192.0.2.1".to_owned(), port: 7, internal_access_path });
        assert!(shown.contains("192.0.2.1") && !shown.contains("s3cret"), "{shown}");
    }

    #[tokio::test]
    async fn the_first_free_port_of_the_range_is_taken_and_a_full_range_is_said() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let taken = TcpListener::bind((loopback, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = bind(loopback, port..=port).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("ports {port} to {port}")), "{refused}");
        let found = bind(loopback, port..=u16::MAX).await.unwrap().local_addr().unwrap().port();
        assert!(found > port);
    }
}
