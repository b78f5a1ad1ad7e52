//! A Docker of any release: what passes on requests to a real one, and knows only some versions of the API.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Bytes of a request's head at most.
const MOST_HEAD: usize = 64 * 1024;

/// The minor numbers of API version 1.
pub type Range = RangeInclusive<u16>;

/// A socket behind which Docker is replaced by other releases.
pub struct Release {
    socket: PathBuf,
    range: watch::Sender<Range>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Release {
    /// Listens at `socket` for the Docker that listens at `docker`.
    pub fn start(socket: PathBuf, docker: PathBuf, range: Range) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket");
        let range = watch::Sender::new(range);
        let asked = Arc::new(Mutex::default());
        let (known, heard) = (range.subscribe(), asked.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (docker, mut known, heard) = (docker.clone(), known.clone(), heard.clone());
                known.mark_unchanged();
                tokio::spawn(async move {
                    let now = known.borrow().clone();
                    tokio::select! {
                        // As at the end of a dockerd.
                        _ = known.changed() => {}
                        served = serve(client, &docker, &now, &heard) => served.unwrap_or_default(),
                    }
                });
            }
        });
        Self { socket, range, asked }
    }

    /// Its address.
    pub fn host_url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Ends all connections; another release answers the next ones.
    pub fn turn_into(&self, range: Range) {
        self.range.send_replace(range);
    }

    /// The paths that were asked for since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request for each connection, so that every one is looked at.
async fn serve(
    mut client: UnixStream,
    docker: &Path,
    range: &Range,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let (head, body) = head(&mut client).await?;
    let line = head.lines().next().unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    if path == "/version" {
        let version = json!({
            "Version": "other", "ApiVersion": format!("1.{}", range.end()), "MinAPIVersion": format!("1.{}", range.start()),
        });
        return answer(&mut client, "200 OK", &version.to_string()).await;
    }
    let Some(minor) = minor(&path) else {
        return answer(&mut client, "404 Not Found", "{\"message\": \"no version\"}").await;
    };
    let refused = match minor {
        minor if minor < *range.start() => Some(format!(
            "client version 1.{minor} is too old. Minimum supported API version is 1.{}, please upgrade your client to a newer version",
            range.start()
        )),
        minor if minor > *range.end() => {
            Some(format!("client version 1.{minor} is too new. Maximum supported API version is 1.{}", range.end()))
        }
        _ => None,
    };
    if let Some(message) = refused {
        return answer(&mut client, "400 Bad Request", &json!({"message": message}).to_string()).await;
    }
    let plain = head.replacen(&format!("/v1.{minor}/"), "/", 1);
    let closing = if plain.to_lowercase().contains("\r\nconnection: upgrade") { "" } else { "Connection: close\r\n" };
    let plain = format!("{}{closing}\r\n", plain.strip_suffix("\r\n").unwrap_or(&plain));
    let mut server = UnixStream::connect(docker).await?;
    server.write_all(plain.as_bytes()).await?;
    server.write_all(&body).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The head of a request with its empty line, and what of the body came with it.
async fn head(client: &mut UnixStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        if client.read_buf(&mut bytes).await? == 0 || bytes.len() > MOST_HEAD {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Of `/v1.41/containers/json`.
fn minor(path: &str) -> Option<u16> {
    path.strip_prefix("/v1.")?.split('/').next()?.parse().ok()
}

async fn answer(client: &mut UnixStream, status: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await
}
