//! Decides who may connect: over a Unix socket root, the agent's own user and one more; over TCP holders of a
//! certificate.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use nix::unistd::{Uid, User, chown, geteuid};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tonic::transport::server::Connected;
use tracing::warn;

use crate::config::{GrpcConfig, GrpcListen};

/// Only the socket's owner may use it; `socket_user` names one more user.
const SOCKET_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o755;
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen at {address}: {source}")]
    Bind { address: String, source: io::Error },
    #[error("another agent listens at {0}; stop it, or set [docker_grpc] listen to another path")]
    InUse(String),
    #[error("[docker_grpc] socket_user: there is no user {0:?} on this host")]
    NoUser(String),
}

/// A bound address.
pub(super) struct Listener {
    address: String,
    socket: Socket,
}

enum Socket {
    Unix { listener: UnixListener, admitted: Vec<Uid>, _file: SocketFile },
    Tcp(TcpListener),
}

/// Removes the socket's name with the listener.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            warn!(%error, path = %self.0.display(), "cannot remove the socket");
        }
    }
}

impl Listener {
    pub(super) fn bind(config: &GrpcConfig) -> Result<Self, ListenError> {
        match &config.listen {
            GrpcListen::Unix(path) => Self::bind_unix(path, config.socket_user.as_deref()),
            GrpcListen::Tcp(address) => Self::bind_tcp(*address),
        }
    }

    fn bind_unix(path: &Path, user: Option<&str>) -> Result<Self, ListenError> {
        let address = format!("unix://{}", path.display());
        let failed = |source: io::Error| ListenError::Bind { address: address.clone(), source };
        let mut admitted = vec![Uid::from_raw(0), geteuid()];
        let user = user.map(find_user).transpose()?;
        admitted.extend(user);
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(failed)?;
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(ListenError::InUse(address)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove_stale(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
        // Strangers can connect until the mode is set; the check of the peer's user refuses them.
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        if user.is_some() {
            chown(path, user, None).map_err(|error| failed(error.into()))?;
        }
        Ok(Self { address, socket: Socket::Unix { listener, admitted, _file: file } })
    }

    fn bind_tcp(address: SocketAddr) -> Result<Self, ListenError> {
        let name = format!("https://{address}");
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        match bound {
            Ok(listener) => Ok(Self { address: name, socket: Socket::Tcp(listener) }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse(name)),
            Err(source) => Err(ListenError::Bind { address: name, source }),
        }
    }

    pub(super) fn address(&self) -> &impl fmt::Display {
        &self.address
    }

    /// The connections of those who may come in.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<Connection>> + Send {
        stream::unfold(self.socket, |socket| async {
            let connection = socket.accept().await;
            Some((connection, socket))
        })
        .filter_map(|accepted| async {
            match accepted {
                Ok(connection) => connection.map(Ok),
                Err(error) => {
                    // Most likely there are no file descriptors left; they come back when connections end.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    None
                }
            }
        })
    }
}

impl Socket {
    /// None: the peer was refused.
    async fn accept(&self) -> io::Result<Option<Connection>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Some(Connection::Tcp(stream)))
            }
            Self::Unix { listener, admitted, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                if admitted.contains(&Uid::from_raw(peer.uid())) {
                    return Ok(Some(Connection::Unix(stream)));
                }
                warn!(
                    uid = peer.uid(),
                    pid = peer.pid(),
                    "refused a process: its user may not use this socket ([docker_grpc] socket_user)"
                );
                Ok(None)
            }
        }
    }
}

/// Removes what a process that was killed has left. A file is refused in the same way as a socket that nobody listens at.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file which is not a socket"));
    }
    std::fs::remove_file(path)
}

fn find_user(name: &str) -> Result<Uid, ListenError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid),
        Ok(None) | Err(_) => Err(ListenError::NoUser(name.to_owned())),
    }
}

/// One client.
pub(super) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
