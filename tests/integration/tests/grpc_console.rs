//! Serial consoles of guests, as nova-serialproxy reaches them, on a real Docker.

use integration_tests::docker::Dockerd;
use integration_tests::door::{Client, Door, Setting, create, launch, reason, until_logged};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use nova_docker_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

pub const ENABLED: [Setting<'static>; 2] =
    [(("serial_console", "enabled"), "true"), (("serial_console", "port_range"), "20100:20199")];

/// What nova-serialproxy is told, and its connection.
struct Viewer {
    stream: TcpStream,
    seen: Vec<u8>,
}

pub async fn access(client: &mut Client, id: &str) -> Result<v1::GetSerialConsoleResponse, tonic::Status> {
    let life = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let asked = v1::GetSerialConsoleRequest { guest_id: id.to_owned(), life };
    client.get_serial_console(asked).await.map(tonic::Response::into_inner)
}

/// Says a path to the listener; the connection and its answer.
pub async fn connect(at: &v1::GetSerialConsoleResponse, path: &str) -> (TcpStream, String) {
    let port = u16::try_from(at.port).unwrap();
    let mut stream = TcpStream::connect((at.host.as_str(), port)).await.unwrap();
    stream.write_all(format!("CONNECT {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![];
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(answer).unwrap())
}

impl Viewer {
    async fn open(client: &mut Client, id: &str) -> Self {
        let at = access(client, id).await.unwrap();
        Self::at(&at).await
    }

    async fn at(at: &v1::GetSerialConsoleResponse) -> Self {
        let (stream, answer) = connect(at, &at.internal_access_path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Self { stream, seen: vec![] }
    }

    async fn types(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    fn has_seen(&self, text: &[u8]) -> bool {
        self.seen.windows(text.len()).any(|window| window == text)
    }

    async fn until_seen(&mut self, text: &[u8]) {
        let seen = timeout(PATIENCE, async {
            while !self.has_seen(text) {
                assert!(self.stream.read_buf(&mut self.seen).await.unwrap() > 0, "it has ended");
            }
        });
        let seen = seen.await.is_ok();
        assert!(seen, "{:?} is not in {:?}", String::from_utf8_lossy(text), String::from_utf8_lossy(&self.seen));
    }

    /// Everything up to the end.
    async fn until_ended(mut self) -> String {
        timeout(PATIENCE, self.stream.read_to_end(&mut self.seen)).await.expect("an end").unwrap();
        String::from_utf8(self.seen).unwrap()
    }
}

/// The commands of a guest's processes.
pub async fn processes(docker: &Dockerd, id: &str) -> Vec<String> {
    let listed = docker.docker(&["top", &format!("nova-{id}"), "-o", "pid,args"]).await;
    listed.lines().skip(1).map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect()
}

async fn until_alone(docker: &Dockerd, id: &str) {
    until("the shell has ended", async || processes(docker, id).await == ["sleep 1000"]).await;
}

fn with_terminal(door: &Door, command: &str) -> v1::CreateGuestRequest {
    let mut request = door.guest(command, &[]);
    let properties = &mut request.image.as_mut().unwrap().properties;
    properties.insert("docker_tty".to_owned(), "true".to_owned());
    request
}

fn a_guest_without_a_terminal_has_a_shell_for_each_viewer_which_ends_with_it() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let mut first = Viewer::open(&mut client, &id).await;
        let mut second = Viewer::open(&mut client, &id).await;
        first.types("name=one; echo [$name$((40 + 2))]\n").await;
        first.until_seen(b"[one42]").await;
        second.types("echo [$name$((40 + 2))]; sleep 2000\n").await;
        second.until_seen(b"[42]").await;
        assert!(!second.has_seen(b"one42"));
        until("the second viewer's job runs", async || {
            processes(&door.docker, &id).await.contains(&"sleep 2000".to_owned())
        })
        .await;
        drop(second);
        until("its shell and its job have ended", async || processes(&door.docker, &id).await.len() == 2).await;
        first.types("echo still; exit\n").await;
        let seen = first.until_ended().await;
        assert!(seen.ends_with("exit\r\nstill\r\n\r\nThe console has ended.\r\n"), "{seen:?}");
        until_alone(&door.docker, &id).await;
        door.close().await;
    });
}

fn viewers_of_a_guests_terminal_see_what_was_written_before_and_what_any_of_them_types() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        // The last word begins as a frame of Docker's does that announces 4 GiB.
        let command = "sh -c 'echo BOOTED; while read -r word; do echo \"[$word]\"; printf \"\\001\\000\\000\\000\\377\\377\\377\\377<\"; done'";
        let id = launch(&mut client, with_terminal(&door, command)).await;
        until_logged(&mut client, &id, "BOOTED").await;
        let mut first = Viewer::open(&mut client, &id).await;
        let mut second = Viewer::open(&mut client, &id).await;
        for viewer in [&mut first, &mut second] {
            viewer.until_seen(b"BOOTED\r\n").await;
        }
        first.types("first\n").await;
        for viewer in [&mut first, &mut second] {
            viewer.until_seen(b"[first]\r\n\x01\0\0\0\xff\xff\xff\xff<").await;
        }
        drop(first);
        second.types("second\n").await;
        second.until_seen(b"[second]\r\n").await;
        let mut third = Viewer::open(&mut client, &id).await;
        third.until_seen(b"[second]\r\n").await;
        door.close().await;
    });
}

fn a_terminal_ends_with_its_guest() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let terminal = launch(&mut client, with_terminal(&door, "sh -c 'read -r word; echo LAST WORDS'")).await;
        let mut viewer = Viewer::open(&mut client, &terminal).await;
        viewer.types("go\n").await;
        let seen = viewer.until_ended().await;
        assert!(seen.contains("LAST WORDS") && seen.ends_with("The console has ended.\r\n"), "{seen:?}");

        let shell = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let mut viewer = Viewer::open(&mut client, &shell).await;
        viewer.types("echo $((40 + 2))\n").await;
        viewer.until_seen(b"42").await;
        client.stop_guest(v1::StopGuestRequest { guest_id: shell.clone(), timeout: None }).await.unwrap();
        viewer.until_ended().await;
        client
            .start_guest(v1::StartGuestRequest { guest_id: shell.clone(), interfaces: vec![], user_data: None })
            .await
            .unwrap();
        let at = access(&mut client, &shell).await.unwrap();
        let viewer = Viewer::at(&at).await;
        let delete = v1::DeleteGuestRequest { guest_id: shell.clone(), ..v1::DeleteGuestRequest::default() };
        client.delete_guest(delete).await.unwrap();
        viewer.until_ended().await;
        // Whoever has a ticket is told in the terminal, where Nova's users look.
        let seen = Viewer::at(&at).await.until_ended().await;
        assert_eq!(seen, "\r\nthe server is not on this host any more\r\n");
        door.close().await;
    });
}

fn nobody_comes_in_without_a_ticket_of_ours() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let at = access(&mut client, &id).await.unwrap();
        assert_eq!(at.host, "127.0.0.1");
        let path = &at.internal_access_path;
        for wrong in ["/", &path[..path.len() - 1], &path.to_uppercase(), &format!("{path}?")] {
            let (mut stream, answer) = connect(&at, wrong).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        }
        // What asks for nothing like it is not answered.
        let mut stream = TcpStream::connect((at.host.as_str(), u16::try_from(at.port).unwrap())).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        // A ticket is good more than once, and beside a newer one.
        access(&mut client, &id).await.unwrap();
        for _ in 0..2 {
            drop(Viewer::at(&at).await);
        }
        until_alone(&door.docker, &id).await;
        door.close().await;
    });
}

fn a_guest_that_cannot_have_a_console_is_refused_with_the_reason() {
    on_host(async |host| {
        let door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let refused = async |client: &mut Client, id: &str, why: &str| {
            let status = access(client, id).await.unwrap_err();
            let (code, reason, _) = reason(&status);
            assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "NO_CONSOLE"));
            assert!(status.message().contains(why), "{status}");
        };
        let request = door.guest("sleep 1000", &[]);
        let id = request.guest.as_ref().unwrap().guest_id.clone();
        create(&mut client, request).await.unwrap();
        refused(&mut client, &id, "it is not running").await;
        client
            .start_guest(v1::StartGuestRequest { guest_id: id.clone(), interfaces: vec![], user_data: None })
            .await
            .unwrap();
        access(&mut client, &id).await.unwrap();
        client.pause_guest(v1::PauseGuestRequest { guest_id: id.clone() }).await.unwrap();
        refused(&mut client, &id, "it is paused").await;
        for (shell, why) in [("none", "neither a terminal nor a shell"), ("/bin/zsh", "is not in the image")] {
            let mut request = door.guest("sleep 1000", &[]);
            let properties = &mut request.image.as_mut().unwrap().properties;
            properties.insert("docker_console_shell".to_owned(), shell.to_owned());
            let id = launch(&mut client, request).await;
            refused(&mut client, &id, why).await;
        }
        let mut request = door.guest("sleep 1000", &[]);
        let specs = &mut request.guest.as_mut().unwrap().extra_specs;
        specs.insert("docker:console_shell".to_owned(), "/bin/ash".to_owned());
        let id = launch(&mut client, request).await;
        let mut viewer = Viewer::open(&mut client, &id).await;
        until("it is the shell that the flavor names", async || {
            processes(&door.docker, &id).await.contains(&"/bin/ash".to_owned())
        })
        .await;
        viewer.types("exit\n").await;
        viewer.until_ended().await;
        let status = access(&mut client, &uuid::Uuid::new_v4().to_string()).await.unwrap_err();
        assert_eq!(reason(&status).1, "GUEST_NOT_FOUND");
        door.close().await;
    });
}

fn a_host_without_consoles_says_so() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let status = access(&mut client, &id).await.unwrap_err();
        assert_eq!(reason(&status).1, "NO_CONSOLE");
        assert!(status.message().contains("switched off"), "{status}");
        door.close().await;
    });
}

fn a_service_that_stops_ends_its_consoles_and_the_next_one_what_a_killed_one_left() {
    on_host(async |host| {
        let mut door = Door::open_with(&host, &ENABLED).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let mut viewer = Viewer::open(&mut client, &id).await;
        viewer.types("echo $((40 + 2))\n").await;
        viewer.until_seen(b"42").await;
        door.service().stop().await.unwrap().unwrap();
        let seen = viewer.until_ended().await;
        assert!(seen.ends_with("open the console again in a moment.\r\n"), "{seen:?}");
        until_alone(&door.docker, &id).await;

        let name = format!("nova-{id}");
        for (mark, seconds) in [("NOVA_CONSOLE=serial", "3000"), ("NOVA_CONSOLE=another", "4000")] {
            door.docker.docker(&["exec", "-d", "-e", mark, &name, "sleep", seconds]).await;
        }
        until("both of them run", async || processes(&door.docker, &id).await.len() == 3).await;
        door.start(&ENABLED).await;
        door.client().await.list_guests(v1::ListGuestsRequest {}).await.unwrap();
        assert_eq!(processes(&door.docker, &id).await, ["sleep 1000", "sleep 4000"]);
        door.close().await;
    });
}

tests!(
    a_guest_without_a_terminal_has_a_shell_for_each_viewer_which_ends_with_it,
    viewers_of_a_guests_terminal_see_what_was_written_before_and_what_any_of_them_types,
    a_terminal_ends_with_its_guest,
    nobody_comes_in_without_a_ticket_of_ours,
    a_guest_that_cannot_have_a_console_is_refused_with_the_reason,
    a_host_without_consoles_says_so,
    a_service_that_stops_ends_its_consoles_and_the_next_one_what_a_killed_one_left,
);
