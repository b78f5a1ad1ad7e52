//! The TCP connection below a connection to a broker: how soon its silence is noticed, and its end at any time.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// A second handle of the socket that the AMQP library has, empty until there is one.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<Option<socket2::Socket>>>);

impl Socket {
    /// Keeps a handle of a socket that was opened, and lets the kernel end it when the other side is silent for so long.
    pub(super) fn opened(&self, socket: impl AsFd, silence: Duration) -> io::Result<()> {
        let socket = SockRef::from(&socket);
        socket.set_tcp_user_timeout(Some(silence))?;
        // Probes, for times when there is nothing else to be answered.
        let probes = TcpKeepalive::new().with_time((silence / 2).max(SECOND)).with_interval((silence / 6).max(SECOND));
        socket.set_tcp_keepalive(&probes)?;
        *self.handle() = Some(socket.try_clone()?);
        Ok(())
    }

    /// Ends the connection, and drops what was not sent yet: nobody wants it to arrive later.
    pub(super) fn abort(&self) {
        let Some(socket) = self.handle().take() else { return };
        let dropped = socket.set_linger(Some(Duration::ZERO));
        // Wakes the library, which has the socket, too. Fails when the connection has ended by itself.
        if let Err(error) = dropped.and_then(|()| socket.shutdown(Shutdown::Both)) {
            tracing::trace!(%error, "the connection had ended");
        }
    }

    fn handle(&self) -> std::sync::MutexGuard<'_, Option<socket2::Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn the_kernel_knows_how_long_silence_may_last() {
        let (client, _server) = pair();
        Socket::default().opened(&client, Duration::from_secs(30)).unwrap();
        let client = SockRef::from(&client);
        assert_eq!(client.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        assert!(client.keepalive().unwrap());
        assert_eq!(client.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
    }

    #[test]
    fn an_aborted_connection_ends_for_both_sides_though_others_have_it() {
        let (mut client, mut server) = pair();
        let socket = Socket::default();
        socket.opened(&client, Duration::from_secs(30)).unwrap();
        socket.abort();
        socket.abort();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).unwrap(), 0);
        drop(client);
        assert!(server.read_to_end(&mut rest).is_ok_and(|read| read == 0) || rest.is_empty());
    }
}
