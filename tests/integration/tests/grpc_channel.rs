//! Channels over guests' serial consoles: commands, logs, the first process, on a real Docker.

use integration_tests::docker::Dockerd;
use integration_tests::door::{Client, Door, launch};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use nova_docker_proto::v1;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::grpc_console::{ENABLED, access, connect, processes};

const NONCE: &str = "00112233445566778899aabbccddeeff";
const WINDOW: usize = 256 * 1024;

/// A client of a channel.
struct Channel {
    stream: TcpStream,
}

/// What a channel has given, up to its last frame.
#[derive(Debug, Default)]
struct Given {
    output: Vec<u8>,
    errors: Vec<u8>,
    taken: usize,
    result: Value,
}

impl Given {
    fn output(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

fn opening() -> Vec<u8> {
    let mut bytes = vec![0x9f];
    bytes.extend_from_slice(format!("nova-docker-channel open 1 {NONCE}").as_bytes());
    bytes.push(0x9c);
    bytes
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

impl Channel {
    async fn open(client: &mut Client, id: &str, request: Value) -> Self {
        Self::ask(client, id, format!("{request}\n").as_bytes()).await
    }

    async fn ask(client: &mut Client, id: &str, request: &[u8]) -> Self {
        let at = access(client, id).await.unwrap();
        let (stream, _) = connect(&at, &at.internal_access_path).await;
        Self::begin(stream, request).await
    }

    /// The control string and the request; what is shown before the answer is skipped.
    async fn begin(mut stream: TcpStream, request: &[u8]) -> Self {
        stream.write_all(&[&opening(), request].concat()).await.unwrap();
        let mut shown = vec![];
        let mut answer = vec![0x9f];
        answer.extend_from_slice(format!("nova-docker-channel ready 1 {NONCE}").as_bytes());
        answer.push(0x9c);
        let answered = timeout(PATIENCE, async {
            while !shown.ends_with(&answer) {
                shown.push(stream.read_u8().await.unwrap());
            }
        });
        answered.await.expect("an answer");
        Self { stream }
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) {
        self.stream.write_all(&frame(kind, payload)).await.unwrap();
    }

    async fn next(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 8];
        timeout(PATIENCE, self.stream.read_exact(&mut header)).await.expect("a frame").unwrap();
        assert_eq!(header[1..4], [0; 3]);
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        assert!(length <= 64 * 1024, "{length}");
        let mut payload = vec![0; length];
        timeout(PATIENCE, self.stream.read_exact(&mut payload)).await.expect("its bytes").unwrap();
        (header[0], payload)
    }

    /// Everything to the end; `look` sees each piece of output.
    async fn watch(mut self, mut look: impl FnMut(&[u8]) -> bool) -> Given {
        let mut given = Given::default();
        loop {
            let (kind, payload) = self.next().await;
            match kind {
                1 | 2 => {
                    let count = u32::try_from(payload.len()).unwrap();
                    self.send(6, &count.to_be_bytes()).await;
                    if look(&payload) {
                        let kept = if kind == 1 { &mut given.output } else { &mut given.errors };
                        kept.extend_from_slice(&payload);
                    }
                }
                6 => given.taken += u32::from_be_bytes(payload.try_into().unwrap()) as usize,
                5 => {
                    given.result = serde_json::from_slice(&payload).unwrap();
                    return given;
                }
                other => panic!("an unknown frame {other}"),
            }
        }
    }

    async fn end(self) -> Given {
        self.watch(|_| true).await
    }

    /// Reads output until this is in it.
    async fn until_written(&mut self, text: &str) {
        let mut seen = vec![];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let (kind, payload) = self.next().await;
            assert!(matches!(kind, 1 | 6), "{kind}: {}", String::from_utf8_lossy(&payload));
            if kind == 1 {
                seen.extend(payload);
            }
        }
    }
}

async fn until_alone(docker: &Dockerd, id: &str) {
    until("the command has ended", async || processes(docker, id).await == ["sleep 1000"]).await;
}

fn exec(words: &[&str]) -> Value {
    json!({"op": "exec", "argv": words})
}

/// Memory of this process, in which the agent is.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn a_command_has_its_streams_its_place_and_its_exit_code() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let script = "cat; echo \"$A $(pwd) $(id -u)\" >&2; exit 7";
        let request = json!({
            "op": "exec", "argv": ["sh", "-c", script], "env": {"A": "b=c"}, "working_dir": "/tmp", "stdin": true,
            "user": "1234",
        });
        let mut channel = Channel::open(&mut client, &id, request).await;
        channel.send(0, b"hello").await;
        channel.send(0, b"").await;
        let given = channel.end().await;
        assert_eq!((given.output().as_str(), given.taken), ("hello", 5));
        assert_eq!(String::from_utf8_lossy(&given.errors), "b=c /tmp 1234\n");
        assert_eq!(given.result, json!({"exit_code": 7}));

        let missing = Channel::open(&mut client, &id, exec(&["/no/such/program"])).await.end().await;
        assert!(matches!(missing.result["exit_code"].as_i64(), Some(126 | 127)), "{missing:?}");
        let killed = Channel::open(&mut client, &id, exec(&["sh", "-c", "kill -9 $$"])).await.end().await;
        assert_eq!(killed.result, json!({"exit_code": 137}));

        // A terminal has a window, which may change.
        let request = json!({
            "op": "exec", "argv": ["sh", "-c", "until stty size | grep '33 111'; do sleep 0.1; done; read -r word; stty size"], "tty": true, "stdin": true,
            "size": {"rows": 33, "columns": 111},
        });
        let mut channel = Channel::open(&mut client, &id, request).await;
        channel.until_written("33 111").await;
        channel.send(4, &[0, 44, 0, 222]).await;
        until("the terminal has the new size", async || {
            let request = json!({"op": "exec", "argv": ["sh", "-c", "for t in /dev/pts/*; do stty size <$t; done"]});
            Channel::open(&mut client, &id, request).await.end().await.output().contains("44 222")
        })
        .await;
        channel.send(0, b"go\n").await;
        let given = channel.end().await;
        assert!(given.output().contains("44 222"), "{given:?}");
        assert_eq!(given.result, json!({"exit_code": 0}));
        until_alone(&door.docker, &id).await;
        door.close().await;
    });
}

fn a_command_ends_with_its_client_and_what_it_started_with_it() {
    on_host(async |host| {
        let mut door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let stubborn = "trap '' HUP; sleep 2000 & echo started; wait";
        for tty in [false, true] {
            let request = json!({"op": "exec", "argv": ["sh", "-c", stubborn], "tty": tty});
            let mut channel = Channel::open(&mut client, &id, request).await;
            channel.until_written("started").await;
            drop(channel);
            until_alone(&door.docker, &id).await;
        }
        // Nobody takes what it writes, or reads what it is sent.
        let request = json!({"op": "exec", "argv": ["sh", "-c", "yes; sleep 2000"], "stdin": true});
        let mut channel = Channel::open(&mut client, &id, request).await;
        let mut sent = 0;
        while sent < WINDOW {
            channel.send(0, &[b'x'; 32 * 1024]).await;
            sent += 32 * 1024;
        }
        let mut written = 0;
        while written < WINDOW - 32 * 1024 {
            written += channel.next().await.1.len();
        }
        drop(channel);
        until_alone(&door.docker, &id).await;

        // The agent's end is theirs too.
        let mut channel = Channel::open(&mut client, &id, exec(&["sh", "-c", "echo started; sleep 2000"])).await;
        channel.until_written("started").await;
        door.service().stop().await.unwrap().unwrap();
        let given = channel.end().await;
        assert!(given.result["error"].as_str().unwrap().contains("try again in a moment"), "{given:?}");
        until_alone(&door.docker, &id).await;
        door.start(&ENABLED).await;
        door.close().await;
    });
}

fn a_hundred_megabytes_pass_both_ways_and_take_no_memory() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        const ALL: usize = 100_000_000;
        let words = ["head", "-c", "100000000", "/dev/zero"];
        let (mut seen, mut most) = (0, 0);
        let before = resident();
        let given = Channel::open(&mut client, &id, exec(&words)).await.watch(|piece| {
            seen += piece.len();
            most = most.max(resident());
            false
        });
        assert_eq!((given.await.result, seen), (json!({"exit_code": 0}), ALL));

        let request = json!({"op": "exec", "argv": ["sh", "-c", "wc -c"], "stdin": true});
        let mut channel = Channel::open(&mut client, &id, request).await;
        let mut room = WINDOW;
        let mut left = ALL;
        while left > 0 {
            let count = left.min(room).min(32 * 1024);
            if count > 0 {
                channel.send(0, &vec![0; count]).await;
                (left, room) = (left - count, room - count);
            }
            if room < 32 * 1024 {
                let (kind, payload) = channel.next().await;
                assert_eq!(kind, 6);
                room += u32::from_be_bytes(payload.try_into().unwrap()) as usize;
                most = most.max(resident());
            }
        }
        channel.send(0, b"").await;
        assert_eq!(channel.end().await.output().trim(), ALL.to_string());
        // Other tests take some meanwhile.
        assert!(most.saturating_sub(before) < 80 << 20, "from {before} to {most}");
        door.close().await;
    });
}

fn what_a_client_may_not_say_or_do_is_refused_with_words() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let long = [b"{\"op\": \"exec\", \"argv\": [\"", vec![b'x'; 70_000].as_slice()].concat();
        let privileged = b"{\"op\": \"exec\", \"argv\": [\"sh\"], \"privileged\": true}\n";
        for (request, words) in [
            (&b"ls\n"[..], "the request is wrong"),
            (privileged, "unknown field"),
            (b"{\"op\": \"exec\", \"argv\": []}\n", "argv"),
            (b"\xff\xfe\n", "the request is wrong"),
            (&long, "too long"),
        ] {
            let given = Channel::ask(&mut client, &id, request).await.end().await;
            assert!(given.result["error"].as_str().unwrap().contains(words), "{words}: {given:?}");
        }
        // More input than there is room for, input that nobody asked for, and what is no frame.
        let cat = json!({"op": "exec", "argv": ["sleep", "2000"], "stdin": true});
        let flood: Vec<u8> = (0..20).flat_map(|_| frame(0, &[b'x'; 32 * 1024])).collect();
        for (request, bytes) in
            [(&cat, flood), (&exec(&["sleep", "2000"]), frame(0, b"x")), (&cat, b"ls -l /tmp\n".into())]
        {
            let mut channel = Channel::open(&mut client, &id, request.clone()).await;
            // It may be refused before all is sent.
            channel.stream.write_all(&bytes).await.unwrap_or_default();
            drop(channel);
            until_alone(&door.docker, &id).await;
        }
        // Nothing but attaching is allowed.
        let mut request = door.guest("sleep 1000", &[]);
        let properties = &mut request.image.as_mut().unwrap().properties;
        properties.insert("docker_tty".to_owned(), "true".to_owned());
        properties.insert("docker_console_shell".to_owned(), "none".to_owned());
        let id = launch(&mut client, request).await;
        let given = Channel::open(&mut client, &id, exec(&["id"])).await.end().await;
        assert!(given.result["error"].as_str().unwrap().contains("console_shell"), "{given:?}");
        let given = Channel::open(&mut client, &id, json!({"op": "logs"})).await.end().await;
        assert_eq!(given.result, json!({"exit_code": 0}), "what needs no shell is there");
        door.close().await;
    });
}

fn a_client_that_asks_late_has_been_shown_a_terminal_and_gets_its_channel() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let at = access(&mut client, &id).await.unwrap();
        let (mut stream, _) = connect(&at, &at.internal_access_path).await;
        assert!(timeout(PATIENCE, stream.read_u8()).await.is_ok(), "a prompt");
        let request = format!("{}\n", exec(&["echo", "here"]));
        let given = Channel::begin(stream, request.as_bytes()).await.end().await;
        assert_eq!((given.output().as_str(), given.result), ("here\n", json!({"exit_code": 0})));
        until_alone(&door.docker, &id).await;
        door.close().await;
    });
}

fn logs_processes_events_and_the_first_process_are_seen() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let command = "sh -c 'echo one; echo two; while [ ! -e /go ]; do sleep 1; done; echo three >&2; exit 3'";
        let id = launch(&mut client, door.guest(command, &[])).await;
        integration_tests::door::until_logged(&mut client, &id, "two").await;
        let listed = Channel::open(&mut client, &id, json!({"op": "top"})).await.end().await;
        let listed: Value = serde_json::from_slice(&listed.output).unwrap();
        assert_eq!((&listed["titles"][0], &listed["processes"][0][0]), (&json!("PID"), &json!("1")), "{listed}");
        let tail = Channel::open(&mut client, &id, json!({"op": "logs", "tail": 1})).await.end().await;
        assert_eq!(tail.output(), "two\n");

        let mut events = Channel::open(&mut client, &id, json!({"op": "events"})).await;
        let attached = Channel::open(&mut client, &id, json!({"op": "attach", "logs": true})).await;
        let mut following = Channel::open(&mut client, &id, json!({"op": "logs", "follow": true})).await;
        following.until_written("two").await;
        Channel::open(&mut client, &id, exec(&["touch", "/go"])).await.end().await;
        let (followed, attached) = (following.end().await, attached.end().await);
        assert_eq!((followed.errors.as_slice(), followed.result), (&b"three\n"[..], json!({"exit_code": 0})));
        assert_eq!((attached.output().as_str(), attached.errors.as_slice()), ("one\ntwo\n", &b"three\n"[..]));
        assert_eq!(attached.result, json!({"exit_code": 3}));
        events.until_written("\"event\":\"die\",\"exit_code\":3").await;
        let delete = v1::DeleteGuestRequest { guest_id: id.clone(), ..v1::DeleteGuestRequest::default() };
        client.delete_guest(delete).await.unwrap();
        let gone = events.end().await;
        assert!(gone.output().contains("destroy"), "{gone:?}");
        door.close().await;
    });
}

tests!(
    a_command_has_its_streams_its_place_and_its_exit_code,
    a_command_ends_with_its_client_and_what_it_started_with_it,
    a_hundred_megabytes_pass_both_ways_and_take_no_memory,
    what_a_client_may_not_say_or_do_is_refused_with_words,
    a_client_that_asks_late_has_been_shown_a_terminal_and_gets_its_channel,
    logs_processes_events_and_the_first_process_are_seen,
);
