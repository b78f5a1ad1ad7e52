//! A client that shows exactly what came over the wire, also when it is cut off.

use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Digest, Lease};

/// An answer, as far as it came. Its status is 0 if nothing came.
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The announced length.
    pub fn length(&self) -> usize {
        self.headers["content-length"].parse().unwrap()
    }

    /// The code of the error, by the distribution specification.
    pub fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a request with these header lines; returns the connection.
pub async fn send(address: SocketAddr, method: &str, path: &str, headers: &[String]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads an answer to its end.
pub async fn receive(mut stream: TcpStream) -> Answer {
    let mut bytes = vec![];
    // A connection that is cut off may be reset.
    while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Answer { status: 0, headers: HashMap::new(), body: vec![] };
    };
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
}

pub fn authorization(lease: &Lease) -> String {
    let reference = &lease.reference;
    let credentials = format!("{}:{}", reference.username, reference.secret.expose_secret());
    format!("Authorization: Basic {}", STANDARD.encode(credentials))
}

/// `127.0.0.1:PORT` and `/v2/glance/ID` of a lease.
pub fn place(lease: &Lease) -> (SocketAddr, String) {
    let (address, name) = lease.reference.name.split_once('/').unwrap();
    let (name, _) = name.split_once('@').unwrap();
    (address.parse().unwrap(), format!("/v2/{name}"))
}

/// Asks for something of an open image: `manifests/...`, `blobs/...`.
pub async fn ask(lease: &Lease, method: &str, what: &str, headers: &[&str]) -> Answer {
    let (address, name) = place(lease);
    let mut lines = vec![authorization(lease)];
    lines.extend(headers.iter().map(|line| (*line).to_owned()));
    receive(send(address, method, &format!("{name}/{what}"), &lines).await).await
}

pub async fn blob(lease: &Lease, digest: Digest) -> Answer {
    ask(lease, "GET", &format!("blobs/{digest}"), &[]).await
}
