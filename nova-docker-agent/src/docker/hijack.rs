//! Raw streams to and from Docker: terminals, for which a request's connection is taken over, and logs; and answers that the client
//! library does not understand.
//!
//! The client library takes what a terminal writes for frames wherever a chunk begins like one, and then waits for as many bytes
//! as it believes to be announced: up to 4 GiB, by the will of whoever writes.

use std::{io, path::Path, time::Duration};

use bollard::errors::Error as DockerError;
use bytes::Bytes;
use futures::{TryStreamExt as _, stream::MapErr};
use hyper::{
    Method, Request, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_util::io::StreamReader;

use super::{Docker, Error};

/// Bytes of a refusal that are read.
const MOST_WORDS: usize = 64 * 1024;
/// Bytes of a document: an image's configuration has up to 8 MiB in our registry, and Docker writes some of its bytes as six.
const MOST_JSON: u64 = 64 << 20;

/// Both directions of a terminal.
pub(super) type Stream = TokioIo<hyper::upgrade::Upgraded>;
/// An answer of any length.
pub(super) type Body = StreamReader<MapErr<axum::body::BodyDataStream, fn(axum::Error) -> io::Error>, Bytes>;

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Docker {
    /// Posts `body` to `path` and takes the connection over. `action` and `what` are for the failure.
    pub(super) async fn hijack(&self, path: &str, body: &Value, action: &str, what: &str) -> Result<Stream, Error> {
        let opened = tokio::time::timeout(self.inner.config.timeout, self.open(path, body)).await;
        let opened = opened.unwrap_or(Err(DockerError::RequestTimeoutError));
        opened.map_err(|error| self.engine().error(action, what, error))
    }

    /// What Docker answers at `path`, to be read slowly.
    pub(super) async fn read_stream(&self, path: &str, action: &str, what: &str) -> Result<Body, Error> {
        let opened = tokio::time::timeout(self.inner.config.timeout, self.get_body(path)).await;
        let opened = opened.unwrap_or(Err(DockerError::RequestTimeoutError));
        opened.map_err(|error| self.engine().error(action, what, error))
    }

    /// The document that Docker answers at `path`.
    pub(super) async fn read_json<T: DeserializeOwned>(
        &self,
        path: &str,
        action: &str,
        what: &str,
    ) -> Result<T, Error> {
        let read = async {
            let mut text = Vec::new();
            self.get_body(path).await?.take(MOST_JSON).read_to_end(&mut text).await?;
            let understood = serde_json::from_slice(&text);
            understood
                .map_err(|error| DockerError::JsonDataError { message: error.to_string(), column: error.column() })
        };
        let read = tokio::time::timeout(self.inner.config.timeout, read).await;
        let read = read.unwrap_or(Err(DockerError::RequestTimeoutError));
        read.map_err(|error| self.engine().error(action, what, error))
    }

    /// Asks for something that has no answer but that it is done, within `limit`.
    pub(super) async fn order(
        &self,
        (method, path): (Method, &str),
        limit: Duration,
        action: &str,
        what: &str,
    ) -> Result<(), Error> {
        let done = tokio::time::timeout(limit, self.done(method, path)).await;
        let done = done.unwrap_or(Err(DockerError::RequestTimeoutError));
        done.map_err(|error| self.engine().error(action, what, error))
    }

    async fn done(&self, method: Method, path: &str) -> Result<(), DockerError> {
        let response = self.send(Request::builder().method(method), path, String::new()).await?;
        // 304: there was nothing to do.
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        Err(refusal(response).await?)
    }

    async fn open(&self, path: &str, body: &Value) -> Result<Stream, DockerError> {
        let request = Request::builder()
            .method(Method::POST)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp")
            .header(CONTENT_TYPE, "application/json");
        let response = self.send(request, path, body.to_string()).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(TokioIo::new(hyper::upgrade::on(response).await?));
        }
        Err(refusal(response).await?)
    }

    async fn get_body(&self, path: &str) -> Result<Body, DockerError> {
        let response = self.send(Request::builder().method(Method::GET), path, String::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await?);
        }
        let body = axum::body::Body::new(response.into_body()).into_data_stream();
        Ok(StreamReader::new(body.map_err(io::Error::other as fn(axum::Error) -> io::Error)))
    }

    async fn send(
        &self,
        request: hyper::http::request::Builder,
        path: &str,
        body: String,
    ) -> Result<hyper::Response<hyper::body::Incoming>, DockerError> {
        let transport = connect(&self.engine().host).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(transport)).await?;
        // It ends with the stream, or with the request where that is refused.
        tokio::spawn(connection.with_upgrades());
        let request = request
            .uri(format!("/v{}{path}", self.engine().api_version()))
            .header(HOST, "docker")
            .body(bollard::body_full(body.into()))?;
        Ok(sender.send_request(request).await?)
    }
}

async fn refusal(response: hyper::Response<hyper::body::Incoming>) -> Result<DockerError, DockerError> {
    let status_code = response.status().as_u16();
    let message = words(response.into_body()).await?;
    Ok(DockerError::DockerResponseServerError { status_code, message })
}

async fn connect(host: &str) -> Result<Box<dyn Transport>, DockerError> {
    Ok(match host.split_once("://") {
        Some(("unix", path)) => Box::new(UnixStream::connect(Path::new(path)).await?),
        Some((_, address)) => Box::new(TcpStream::connect(address.trim_end_matches('/')).await?),
        None => Box::new(UnixStream::connect(Path::new(host)).await?),
    })
}

/// Docker's reason, from its JSON or as it is.
async fn words(body: hyper::body::Incoming) -> Result<String, DockerError> {
    let body = axum::body::to_bytes(axum::body::Body::new(body), MOST_WORDS).await;
    let body = body.map_err(|error| DockerError::IOError { err: std::io::Error::other(error) })?;
    let message = serde_json::from_slice::<Value>(&body).ok();
    let message = message.as_ref().and_then(|answer| answer.get("message")).and_then(Value::as_str);
    Ok(message.map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned))
}
