//! Removes one instance's data from a `docker save` archive while it streams by.
//!
//! Docker up to 24 writes into an image's configuration, and into `<layer>/json`, how the committed container was configured:
//! labels with the project's and the user's ids, host name, environment, and what else its user has asked for. Those files are rewritten. In the OCI layout of
//! newer releases the files' names are their digests; there the configuration has no such part, and nothing is changed.

use std::collections::HashMap;

use bollard::models::ImageConfig;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use serde_json::Value;

use super::Error;

const BLOCK: usize = 512;
/// No image's configuration is as large as this; larger files are passed on.
const MAX_JSON: u64 = 4 * 1024 * 1024;

/// What the image of the container was configured with.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    environment: Vec<String>,
    labels: HashMap<String, String>,
    /// Of what else a user can replace.
    others: [(&'static str, Option<Value>); 6],
}

impl Base {
    pub(super) fn of(config: &ImageConfig) -> Self {
        let words = |words: &Option<Vec<String>>| words.clone().map(Value::from);
        let text = |text: &Option<String>| text.clone().map(Value::from);
        Self {
            environment: config.env.clone().unwrap_or_default(),
            labels: config.labels.clone().unwrap_or_default(),
            others: [
                ("Cmd", words(&config.cmd)),
                ("Entrypoint", words(&config.entrypoint)),
                ("Healthcheck", config.healthcheck.as_ref().and_then(|check| serde_json::to_value(check).ok())),
                ("StopSignal", text(&config.stop_signal)),
                ("User", text(&config.user)),
                ("WorkingDir", text(&config.working_dir)),
            ],
        }
    }
}

/// The same archive without the instance's traces.
pub(super) fn scrubbed(
    archive: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    base: Base,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let scrubber = Scrubber { base, input: BytesMut::new(), state: State::Header, zeros: 0 };
    stream::unfold((archive.boxed(), scrubber, false), |(mut archive, mut scrubber, ended)| async move {
        if ended {
            return None;
        }
        loop {
            match archive.next().await {
                Some(Ok(chunk)) => match scrubber.push(&chunk) {
                    output if output.is_empty() => {}
                    output => return Some((Ok(output), (archive, scrubber, false))),
                },
                Some(Err(error)) => return Some((Err(error), (archive, scrubber, true))),
                None if scrubber.is_whole() => return None,
                None => {
                    let error = Error::Docker {
                        action: "save the snapshot".to_owned(),
                        status: 0,
                        message: "the archive breaks off before its end".to_owned(),
                    };
                    return Some((Err(error), (archive, scrubber, true)));
                }
            }
        }
    })
}

enum State {
    /// At a header.
    Header,
    /// Within the content of a file that is passed on: bytes to come, with the padding.
    Passing(u64),
    /// Within a file that is rewritten: its header and its size.
    Holding(Box<tar::Header>, u64),
}

struct Scrubber {
    base: Base,
    input: BytesMut,
    state: State,
    /// Blocks of nothing in a row: two are an archive's end.
    zeros: usize,
}

impl Scrubber {
    /// Docker ends its answer as if it were whole where it fails in the middle.
    fn is_whole(&self) -> bool {
        matches!(self.state, State::Header) && self.input.is_empty() && self.zeros >= 2
    }

    /// Takes a piece of the archive, and gives what is ready to go on.
    fn push(&mut self, chunk: &[u8]) -> Bytes {
        self.input.extend_from_slice(chunk);
        let mut output = BytesMut::new();
        while self.step(&mut output) {}
        output.freeze()
    }

    /// One file's header or content; false when more input is needed.
    fn step(&mut self, output: &mut BytesMut) -> bool {
        match std::mem::replace(&mut self.state, State::Header) {
            State::Header => {
                if self.input.len() < BLOCK {
                    return false;
                }
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&self.input[..BLOCK]);
                // Zeros (the end), or something that is no header: passed on, block by block.
                let size = header.entry_size().unwrap_or(0);
                self.zeros = if header.as_bytes().iter().all(|byte| *byte == 0) { self.zeros + 1 } else { 0 };
                if is_configuration(&header) && size <= MAX_JSON {
                    self.input.advance(BLOCK);
                    self.state = State::Holding(Box::new(header), size);
                } else {
                    output.extend_from_slice(&self.input.split_to(BLOCK));
                    self.state = State::Passing(padded(size));
                }
                true
            }
            State::Passing(0) => true,
            State::Passing(left) => {
                if self.input.is_empty() {
                    self.state = State::Passing(left);
                    return false;
                }
                let count = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                output.extend_from_slice(&self.input.split_to(count));
                self.state = State::Passing(left - count as u64);
                true
            }
            State::Holding(header, size) => {
                let total = padded(size) as usize;
                if self.input.len() < total {
                    self.state = State::Holding(header, size);
                    return false;
                }
                let content = self.input.split_to(total);
                self.emit(*header, &content[..size as usize], output);
                true
            }
        }
    }

    fn emit(&self, mut header: tar::Header, content: &[u8], output: &mut BytesMut) {
        let scrubbed = serde_json::from_slice(content).ok().and_then(|mut config: Value| {
            self.base.scrub(&mut config);
            serde_json::to_vec(&config).ok()
        });
        let content = scrubbed.as_deref().unwrap_or(content);
        header.set_size(content.len() as u64);
        header.set_cksum();
        output.extend_from_slice(header.as_bytes());
        output.extend_from_slice(content);
        output.put_bytes(0, content.len().next_multiple_of(BLOCK) - content.len());
    }
}

impl Base {
    fn scrub(&self, config: &mut Value) {
        let Some(image) = config.as_object_mut() else { return };
        image.remove("container");
        image.remove("container_config");
        let Some(config) = image.get_mut("config").and_then(Value::as_object_mut) else { return };
        config.insert("Hostname".to_owned(), "".into());
        config.insert("Domainname".to_owned(), "".into());
        if let Some(environment) = config.get_mut("Env").and_then(Value::as_array_mut) {
            environment
                .retain(|variable| variable.as_str().is_some_and(|text| self.environment.iter().any(|e| e == text)));
        }
        if let Some(labels) = config.get_mut("Labels").and_then(Value::as_object_mut) {
            labels.retain(|label, _| self.labels.contains_key(label));
        }
        for (name, value) in &self.others {
            match value {
                Some(value) => config.insert((*name).to_owned(), value.clone()),
                None => config.remove(*name),
            };
        }
    }
}

/// Whether the header is that of `<64 hexadecimal digits>.json` or `<64 hexadecimal digits>/json`.
fn is_configuration(header: &tar::Header) -> bool {
    let path = header.path_bytes();
    let digits = path.strip_suffix(b".json").or_else(|| path.strip_suffix(b"/json"));
    header.entry_type().is_file()
        && digits.is_some_and(|name| name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit))
}

fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use std::io::Read;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    async fn run(input: Vec<u8>, piece: usize) -> Vec<(String, Vec<u8>)> {
        let base = Base::of(&ImageConfig {
            env: Some(vec!["PATH=/bin".to_owned()]),
            labels: Some([("mine".to_owned(), "1".to_owned())].into()),
            user: Some("7".to_owned()),
            ..ImageConfig::default()
        });
        let pieces: Vec<_> = input.chunks(piece).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let output: Vec<Bytes> = scrubbed(stream::iter(pieces), base).try_collect().await.unwrap();
        let output = output.concat();
        assert_eq!(output.len() % BLOCK, 0);
        let mut archive = tar::Archive::new(output.as_slice());
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[tokio::test]
    async fn the_instances_traces_leave_the_configuration_and_all_else_stays() {
        let name = "a".repeat(64);
        let config = br#"{"container":"c","container_config":{"Hostname":"secret"},"os":"linux",
            "config":{"Hostname":"h","Env":["PATH=/bin","TOKEN="],"Entrypoint":["of the user"],"User":"8",
            "Healthcheck":{"Test":["CMD-SHELL","secret"]},
            "Labels":{"org.openstack.nova.project-id":"","of-the-user":"","mine":"1"}}}"#;
        let layer = vec![7_u8; 1500];
        let files: [(&str, &[u8]); 3] =
            [(&format!("{name}/layer.tar"), &layer), (&format!("{name}.json"), config), ("manifest.json", b"[]")];
        for piece in [1, 511, 513, 700, 100_000] {
            let found = run(archive(&files), piece).await;
            let scrubbed: Value = serde_json::from_slice(&found[1].1).unwrap();
            let expected = serde_json::json!({"os": "linux",
                "config": {"Hostname": "", "Domainname": "", "Env": ["PATH=/bin"], "User": "7", "Labels": {"mine": "1"}}});
            assert_eq!(scrubbed, expected);
            assert_eq!(found[0], (format!("{name}/layer.tar"), layer.clone()));
            assert_eq!(found[2].1, b"[]");
        }
    }

    #[tokio::test]
    async fn an_archive_that_breaks_off_is_no_snapshot() {
        let whole = archive(&[("a", b"content"), ("b", &[1; 700])]);
        for kept in [0, 100, 512, 1024, 1536, 2560, whole.len() - 512, whole.len() - 1] {
            let piece = Bytes::copy_from_slice(&whole[..kept]);
            let output: Result<Vec<Bytes>, Error> =
                scrubbed(stream::iter([Ok(piece)]), Base::default()).try_collect().await;
            assert!(output.is_err(), "{kept} of {} bytes", whole.len());
        }
        assert!(
            scrubbed(stream::iter([Ok(Bytes::from(whole))]), Base::default()).try_collect::<Vec<_>>().await.is_ok()
        );
    }

    #[tokio::test]
    async fn files_that_are_named_by_their_digest_keep_every_byte() {
        let blob = format!("blobs/sha256/{}", "b".repeat(64));
        let input = archive(&[(&blob, br#"{"config":{"Hostname":"h"}}"#)]);
        assert_eq!(run(input, 700).await[0].1, br#"{"config":{"Hostname":"h"}}"#);
    }
}
