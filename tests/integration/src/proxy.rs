//! A network path that can fall silent without a connection being closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards a port of loopback to another one.
pub struct Proxy {
    port: u16,
    silent: Arc<watch::Sender<bool>>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let silent = Arc::new(watch::Sender::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (sender, count) = (silent.clone(), accepted.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) =
                    TcpStream::connect(("127.0.0.1", to)).await.expect("the server answers").into_split();
                tokio::spawn(forward(from_client, to_server, sender.subscribe()));
                tokio::spawn(forward(from_server, to_client, sender.subscribe()));
            }
        });
        Self { port, silent, accepted }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// From now on nothing passes on the connections that exist; new ones work.
    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
        self.silent.send_replace(false);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut buffer = vec![0; 65536];
    loop {
        tokio::select! {
            _ = silent.changed() => break,
            read = from.read(&mut buffer) => match read {
                Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
    // Held open, as by a machine that has lost its power.
    std::future::pending::<()>().await;
}
