//! An image of our registry as an archive that Docker loads: an OCI layout. Docker verifies each blob.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;

use crate::registry::PullReference;

const BLOCK: usize = 512;
/// Bytes of a manifest or of a configuration: more than the registry serves.
const MOST_BYTES: u64 = 8 << 20;

/// The archive of what the registry has under the reference. In it the image is called `name`.
pub(super) async fn archive(
    reference: &PullReference,
    name: &str,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let (registry, digest) = Registry::of(reference)?;
    let (media_type, manifest) = registry.document(&format!("manifests/{digest}"), MOST_BYTES).await?;
    let Manifest { config, layers } = serde_json::from_slice(&manifest)?;
    let most = config.size.min(MOST_BYTES);
    let (_, configuration) = registry.document(&format!("blobs/{}", config.digest), most).await?;
    for layer in &layers {
        path_of(&layer.digest)?;
    }
    let described = json!({
        "mediaType": media_type, "digest": digest, "size": manifest.len(), "annotations": {"io.containerd.image.name": name}
    });
    let index = json!({"schemaVersion": 2, "manifests": [described]});
    let layout = json!({"imageLayoutVersion": "1.0.0"});
    let mut files = vec![
        File::Document("oci-layout".to_owned(), layout.to_string().into()),
        File::Document("index.json".to_owned(), index.to_string().into()),
        File::Document(path_of(&digest)?, manifest),
        File::Document(path_of(&config.digest)?, configuration),
    ];
    let mut seen = BTreeSet::new();
    files.extend(layers.into_iter().filter(|layer| seen.insert(layer.digest.clone())).map(File::Layer));
    let registry = Arc::new(registry);
    let files = stream::iter(files).then(move |file| registry.clone().file(file)).try_flatten();
    Ok(files.chain(stream::once(async { Ok(Bytes::from_static(&[0; 2 * BLOCK])) })))
}

/// Its media type need not stand in it.
#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    digest: String,
    size: u64,
}

/// What becomes a file of the archive.
enum File {
    /// Path and content.
    Document(String, Bytes),
    /// It is read when its turn comes.
    Layer(Blob),
}

/// One repository of the registry, for whoever has the credentials.
struct Registry {
    address: String,
    repository: String,
    authorization: HeaderValue,
}

impl Registry {
    /// With the digest that is referred to.
    fn of(reference: &PullReference) -> io::Result<(Self, String)> {
        let (name, digest) = reference.name.split_once('@').ok_or_else(|| io::Error::other("it has no digest"))?;
        let (address, repository) = name.split_once('/').ok_or_else(|| io::Error::other("it has no repository"))?;
        let credentials = format!("{}:{}", reference.username, reference.secret.expose_secret());
        let authorization = format!("Basic {}", STANDARD.encode(credentials));
        let mut authorization = HeaderValue::try_from(authorization).map_err(io::Error::other)?;
        authorization.set_sensitive(true);
        let registry = Self { address: address.to_owned(), repository: repository.to_owned(), authorization };
        Ok((registry, digest.to_owned()))
    }

    async fn get(&self, path: &str) -> io::Result<Response<Incoming>> {
        let transport = TcpStream::connect(&self.address).await?;
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(transport)).await;
        let (mut sender, connection) = connected.map_err(io::Error::other)?;
        // It ends with the answer.
        tokio::spawn(connection);
        let request = Request::get(format!("/v2/{}/{path}", self.repository))
            .header(HOST, &self.address)
            .header(AUTHORIZATION, self.authorization.clone())
            .body(bollard::body_full(Bytes::new()))
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        match response.status() {
            StatusCode::OK => Ok(response),
            other => Err(io::Error::other(format!("the registry answers {other} for {path}"))),
        }
    }

    /// With its media type.
    async fn document(&self, path: &str, most: u64) -> io::Result<(String, Bytes)> {
        let response = self.get(path).await?;
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.to_owned();
        let body = axum::body::Body::new(response.into_body());
        let content = axum::body::to_bytes(body, usize::try_from(most).unwrap_or(usize::MAX)).await;
        Ok((media_type, content.map_err(io::Error::other)?))
    }

    async fn file(self: Arc<Self>, file: File) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let Blob { digest, size } = match file {
            File::Layer(blob) => blob,
            File::Document(path, content) => {
                let mut whole = BytesMut::from(header(&path, content.len() as u64)?.as_bytes().as_slice());
                whole.extend_from_slice(&content);
                whole.resize(whole.len().next_multiple_of(BLOCK), 0);
                return Ok(stream::once(async { Ok(whole.freeze()) }).boxed());
            }
        };
        let response = self.get(&format!("blobs/{digest}")).await?;
        let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // A body that has fewer bytes fails.
        if length != Some(size) {
            return Err(io::Error::other(format!("blob {digest} has {length:?} bytes, and not {size}")));
        }
        let header = Bytes::copy_from_slice(header(&path_of(&digest)?, size)?.as_bytes());
        let padding = Bytes::from_static(&[0; BLOCK]).slice(..(size.wrapping_neg() % BLOCK as u64) as usize);
        let content = axum::body::Body::new(response.into_body()).into_data_stream().map_err(io::Error::other);
        let framed = stream::once(async { Ok(header) }).chain(content).chain(stream::once(async { Ok(padding) }));
        Ok(framed.boxed())
    }
}

fn header(path: &str, size: u64) -> io::Result<tar::Header> {
    // It tells sizes beyond 8 GiB.
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// `blobs/sha256/<hex>`. What Docker loads it knows by no other digest.
fn path_of(digest: &str) -> io::Result<String> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match digest.strip_prefix("sha256:") {
        Some(hex) if is_word(hex) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(io::Error::other(format!("{digest:?} is no digest of SHA-256"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use wiremock::matchers::{basic_auth, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    async fn serve(server: &MockServer, at: &str, content: impl Into<Vec<u8>>) {
        let answer = ResponseTemplate::new(200).set_body_raw(content.into(), "application/octet-stream");
        let asked =
            Mock::given(method("GET")).and(path(format!("/v2/glance/i/{at}"))).and(basic_auth("agent", "secret"));
        asked.respond_with(answer).mount(server).await;
    }

    /// A registry with an image of one layer, twice, which is said to have `size` bytes; and the reference.
    async fn registry(size: usize) -> (MockServer, PullReference) {
        let server = MockServer::start().await;
        let layer = json!({"mediaType": "l", "digest": "sha256:a", "size": size});
        let config = json!({"mediaType": "c", "digest": "sha256:c", "size": 9});
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer, layer]});
        serve(&server, "manifests/sha256:f", manifest.to_string()).await;
        serve(&server, "blobs/sha256:c", r#"{"a":"b"}"#).await;
        serve(&server, "blobs/sha256:a", vec![7; 700]).await;
        let name = format!("{}/glance/i@sha256:f", server.address());
        (server, PullReference { name, username: "agent".to_owned(), secret: "secret".to_owned().into() })
    }

    async fn read(reference: &PullReference) -> io::Result<Vec<u8>> {
        let archive = archive(reference, "some/name@sha256:f").await?;
        archive
            .try_fold(vec![], async |mut all, piece| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn an_image_becomes_a_layout_with_each_layer_once_and_the_name_that_it_is_to_have() {
        let (_server, reference) = registry(700).await;
        let whole = read(&reference).await.unwrap();
        assert_eq!(whole.len() % BLOCK, 0);
        let mut found = vec![];
        for entry in tar::Archive::new(&*whole).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = vec![];
            entry.read_to_end(&mut content).unwrap();
            found.push((entry.path().unwrap().display().to_string(), content));
        }
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        let blobs = ["blobs/sha256/f", "blobs/sha256/c", "blobs/sha256/a"];
        assert_eq!(paths, ["oci-layout", "index.json", blobs[0], blobs[1], blobs[2]]);
        let index: serde_json::Value = serde_json::from_slice(&found[1].1).unwrap();
        let described = &index["manifests"][0];
        assert_eq!((&described["digest"], &described["size"]), (&json!("sha256:f"), &json!(found[2].1.len())));
        assert_eq!(described["mediaType"], "application/octet-stream", "as the registry says");
        assert_eq!(described["annotations"]["io.containerd.image.name"], "some/name@sha256:f");
        assert_eq!((found[3].1.as_slice(), &found[4].1), (br#"{"a":"b"}"#.as_slice(), &vec![7; 700]));
    }

    #[tokio::test]
    async fn a_layer_of_another_size_and_an_image_that_is_not_open_break_the_archive_off() {
        let (_server, reference) = registry(701).await;
        assert!(read(&reference).await.unwrap_err().to_string().contains("and not 701"));
        let (_server, reference) = registry(700).await;
        let wrong = PullReference { secret: "other".to_owned().into(), ..reference };
        assert!(read(&wrong).await.unwrap_err().to_string().contains("404"));
    }

    #[test]
    fn what_is_no_digest_becomes_no_path() {
        for wrong in ["sha256", "sha256:", ":a", "sha256:../a", "../a:b", "sha512:a"] {
            assert!(path_of(wrong).is_err(), "{wrong}");
        }
    }
}
