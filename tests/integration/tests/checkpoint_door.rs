//! Suspend to disk through the second door, with Open vSwitch: a restart of the host, what takes its place, and what ends it.

use std::collections::HashMap;
use std::process::Stdio;

use futures::FutureExt as _;
use integration_tests::criu::Endless;
use integration_tests::docker::Dockerd;
use integration_tests::door::{Client, Door, Setting, console, launch, port, reason, until_logged, with_token};
use integration_tests::instance::interface;
use integration_tests::log::Log;
use integration_tests::on_host;
use integration_tests::patience::PATIENCE;
use integration_tests::process::run;
use integration_tests::programs::criu;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use nova_docker_agent::network::Plumber;
use nova_docker_proto::v1::{self, PowerState, ReplacePurpose};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tonic::Code;
use uuid::Uuid;

/// Counts the lines that it is sent, and says the count, for as long as a connection lasts.
const SERVER: &str =
    "sh -c 'echo UP; exec nc -l -p 7000 -e sh -c \"n=0; while read line; do n=\\$((n+1)); echo \\$n; done\"'";
const COUNTING: &str = "sh -c 'n=0; while :; do n=$((n+1)); echo COUNT $n; sleep 0.1; done'";
/// Holds a deleted file that is too large for CRIU.
const GHOST: &str = "sh -c 'dd if=/dev/zero of=/file bs=1M count=2; exec 3</file; rm /file; echo UP; exec sleep 1000'";

/// A client in a network namespace of its own, with one connection.
struct Peer {
    _child: Child,
    /// Its process group: the shell, and what that has started.
    group: Pid,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn connect(namespace: &str, address: &str) -> Self {
        let command = format!("until busybox nc {address} 7000; do sleep 0.1; done");
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace, "sh", "-c", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        let group = Pid::from_raw(child.id().unwrap().try_into().unwrap());
        Self { to: child.stdin.take().unwrap(), from, _child: child, group }
    }

    async fn say(&mut self) {
        self.to.write_all(b"line\n").await.unwrap();
    }

    async fn hear(&mut self) -> Option<String> {
        timeout(PATIENCE, self.from.next_line()).await.expect("an answer").unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        killpg(self.group, Signal::SIGKILL).unwrap();
    }
}

/// A door whose guests go to disk where they can.
async fn open(host: &integration_tests::Host) -> (Door, Client) {
    let door = Door::open_with(host, &settings(&criu())).await;
    let client = door.client().await;
    (door, client)
}

/// Nobody else wires its ports.
fn settings(criu: &str) -> [Setting<'_>; 2] {
    [(("docker", "criu"), criu), (("os_vif_ovs", "isolate_vif"), "false")]
}

async fn state(client: &mut Client, id: &str) -> PowerState {
    let asked = v1::GetGuestRequest { guest_id: id.to_owned() };
    client.get_guest(asked).await.unwrap().into_inner().guest.unwrap().power_state()
}

async fn suspend(client: &mut Client, id: &str) {
    client.suspend_guest(v1::SuspendGuestRequest { guest_id: id.to_owned() }).await.unwrap();
}

async fn resume(client: &mut Client, id: &str, interfaces: &[v1::Interface]) {
    let interfaces = interfaces.to_vec();
    client.resume_guest(v1::ResumeGuestRequest { guest_id: id.to_owned(), interfaces, user_data: None }).await.unwrap();
    assert_eq!(state(client, id).await, PowerState::Running);
}

async fn inspect(docker: &Dockerd, id: &str, format: &str) -> String {
    docker.docker(&["inspect", "--format", format, &format!("nova-{id}")]).await
}

/// What is on disk of guests.
fn on_disk(door: &Door) -> usize {
    std::fs::read_dir(door.docker.path("state/docker-checkpoints")).map_or(0, Iterator::count)
}

fn a_connection_survives_a_restart_of_the_host_and_nobody_starts_the_server_before_it_is_resumed() {
    on_host(async |host| {
        let (mut door, mut client) = open(&host).await;
        let interfaces = [port(0, 5)];
        let mut request = door.guest(SERVER, &interfaces);
        request.guest.as_mut().unwrap().metadata.insert("docker:restart".to_owned(), "always".to_owned());
        let id = launch(&mut client, request).await;
        until_logged(&mut client, &id, "UP").await;
        let (peer, plumber) = (Uuid::new_v4(), door.ovs.plumber());
        plumber.declare(peer, true).await.unwrap();
        plumber.plug(peer, &[interface(0, 6)]).await.unwrap();
        let namespace = |uuid: Uuid| Plumber::namespace_path(uuid).file_name().unwrap().to_string_lossy().into_owned();
        let mut connection = Peer::connect(&namespace(peer), "10.9.0.5");
        connection.say().await;
        assert_eq!(connection.hear().await.as_deref(), Some("1"));
        suspend(&mut client, &id).await;
        assert_eq!(state(&mut client, &id).await, PowerState::Suspended);
        assert_eq!(inspect(&door.docker, &id, "{{.State.Pid}}").await, "0", "it has memory still");

        door.service().stop().await.unwrap().unwrap();
        door.docker.lose_memory();
        run("ip", &["netns", "del", &namespace(id.parse().unwrap())]).await;
        // The switch goes on, and would hold the interface that it knew for the new one of that name.
        door.ovs.vsctl(&["del-port", &format!("tap{}", &interfaces[0].port_id[..11])]).await;
        connection.say().await;
        door.docker.start_server().await;
        door.start(&settings(&criu())).await;
        let mut client = door.client().await;
        assert_eq!(state(&mut client, &id).await, PowerState::Suspended);
        assert_eq!(inspect(&door.docker, &id, "{{.State.Running}}").await, "false");
        resume(&mut client, &id, &interfaces).await;
        assert_eq!(connection.hear().await.as_deref(), Some("2"), "the connection is lost");
        assert_eq!(console(&mut client, &id, None).await.matches("UP").count(), 1, "it was started");
        assert_eq!(inspect(&door.docker, &id, "{{.HostConfig.RestartPolicy.Name}}").await, "unless-stopped");
        assert_eq!(on_disk(&door), 0);

        // Begun afresh, it is reached as ever. With the connection the server's process ends, so that goes last.
        suspend(&mut client, &id).await;
        drop(connection);
        let reboot =
            v1::RebootGuestRequest { guest_id: id.clone(), interfaces: interfaces.to_vec(), ..Default::default() };
        client.reboot_guest(reboot).await.unwrap();
        let mut connection = Peer::connect(&namespace(peer), "10.9.0.5");
        connection.say().await;
        assert_eq!(connection.hear().await.as_deref(), Some("1"), "its network is locked");
        drop(connection);
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        plumber.unplug(peer, &[]).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn what_cannot_be_dumped_is_frozen_or_refused_with_the_reason_and_runs_on() {
    on_host(async |host| {
        let log = Log::of_this_thread();
        let (mut door, mut client) = open(&host).await;
        let id = launch(&mut client, door.guest(GHOST, &[])).await;
        until_logged(&mut client, &id, "UP").await;
        let pid = inspect(&door.docker, &id, "{{.State.Pid}}").await;
        suspend(&mut client, &id).await;
        assert_eq!(state(&mut client, &id).await, PowerState::Paused);
        let text = log.text();
        let line = text.lines().find(|line| line.contains("freezing it in memory")).expect("a line of the log");
        assert!(line.contains("Can't dump ghost file /file"), "{line}");
        assert_eq!(on_disk(&door), 0);
        resume(&mut client, &id, &[]).await;

        door.service().stop().await.unwrap().unwrap();
        door.start(&[(("docker", "criu"), &criu()), (("docker", "suspend"), "checkpoint")]).await;
        let mut client = door.client().await;
        let refused = client.suspend_guest(v1::SuspendGuestRequest { guest_id: id.clone() }).await.unwrap_err();
        assert!(refused.message().contains("Can't dump ghost file /file"), "{refused}");
        assert_eq!(reason(&refused).1, "UNSUPPORTED");
        assert_eq!(state(&mut client, &id).await, PowerState::Running);
        assert_eq!(inspect(&door.docker, &id, "{{.State.Pid}}").await, pid, "it was started anew");
        assert_eq!(on_disk(&door), 0);
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        door.close().await;
    });
}

async fn replace(client: &mut Client, request: &v1::CreateGuestRequest, purpose: ReplacePurpose) {
    let v1::CreateGuestRequest { guest, image, interfaces } = request.clone();
    let request = v1::ReplaceGuestRequest { guest, image, interfaces, purpose: purpose.into() };
    let mut stream = client.replace_guest(with_token(request)).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

fn whatever_takes_the_place_of_a_suspended_guest_leaves_nothing_of_its_memory_on_disk() {
    on_host(async |host| {
        let (door, mut client) = open(&host).await;
        let request = door.guest(COUNTING, &[]);
        let id = launch(&mut client, request.clone()).await;
        let guest_id = || id.clone();
        let suspended = async |client: &mut Client| {
            suspend(client, &guest_id()).await;
            assert_eq!((state(client, &guest_id()).await, on_disk(&door)), (PowerState::Suspended, 1));
        };
        let start = || v1::StartGuestRequest { guest_id: guest_id(), interfaces: vec![], user_data: None };
        // A shelving, a soft deletion, a rescue and a rebuild begin with it.
        suspended(&mut client).await;
        client.stop_guest(v1::StopGuestRequest { guest_id: guest_id(), timeout: None }).await.unwrap();
        assert_eq!((state(&mut client, &id).await, on_disk(&door)), (PowerState::Stopped, 0));
        client.start_guest(start()).await.unwrap();
        until_logged(&mut client, &id, "COUNT 1\n").await;

        suspended(&mut client).await;
        let reboot = v1::RebootGuestRequest { guest_id: guest_id(), ..Default::default() };
        client.reboot_guest(reboot).await.unwrap();
        assert_eq!((state(&mut client, &id).await, on_disk(&door)), (PowerState::Running, 0));

        // Even where nobody has stopped it.
        for purpose in [ReplacePurpose::Rescue, ReplacePurpose::Rebuild] {
            suspended(&mut client).await;
            replace(&mut client, &request, purpose).await;
            client.start_guest(start()).await.unwrap();
            if purpose == ReplacePurpose::Rescue {
                client.restore_guest(v1::RestoreGuestRequest { guest_id: guest_id() }).await.unwrap();
                client.start_guest(start()).await.unwrap();
            } else {
                client.settle_guest(v1::SettleGuestRequest { guest_id: guest_id() }).await.unwrap();
            }
            assert_eq!((state(&mut client, &id).await, on_disk(&door)), (PowerState::Running, 0), "{purpose:?}");
        }

        suspended(&mut client).await;
        client.delete_guest(v1::DeleteGuestRequest { guest_id: guest_id(), ..Default::default() }).await.unwrap();
        assert_eq!(on_disk(&door), 0);
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_deletion_ends_the_way_to_disk_and_goes_on() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        let endless = Endless::new(&door.docker, &door.docker.path("state/docker-checkpoints"));
        door.start(&settings(&endless.criu)).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest(COUNTING, &[])).await;
        until_logged(&mut client, &id, "COUNT 3\n").await;
        let request = v1::SuspendGuestRequest { guest_id: id.clone() };
        let mut other = client.clone();
        let suspend = tokio::spawn(async move { other.suspend_guest(request).await });
        endless.until_begun().await;
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        let ended = suspend.await.unwrap().unwrap_err();
        assert_eq!(reason(&ended), (Code::Cancelled, "CANCELLED".to_owned(), HashMap::new()), "{ended}");
        assert_eq!(on_disk(&door), 0);
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_resume_whose_caller_is_gone_before_its_turn_is_not_done() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        let endless = Endless::new(&door.docker, &door.docker.path("state/docker-checkpoints"));
        door.start(&settings(&endless.criu)).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest(COUNTING, &[])).await;
        until_logged(&mut client, &id, "COUNT 3\n").await;
        let mut other = client.clone();
        let request = v1::SuspendGuestRequest { guest_id: id.clone() };
        let suspend = tokio::spawn(async move { other.suspend_guest(request).await });
        endless.until_begun().await;

        let mut other = client.clone();
        let request = v1::ResumeGuestRequest { guest_id: id.clone(), ..Default::default() };
        let mut resume = Box::pin(other.resume_guest(request));
        assert!((&mut resume).now_or_never().is_none());
        // One connection has them all, in order: by this answer the service has the resume, too.
        state(&mut client, &id).await;
        drop(resume);
        state(&mut client, &id).await;
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id.clone(), ..Default::default() }).await.unwrap();
        suspend.await.unwrap().unwrap_err();
        // Turns are taken in order: before the deletion, the resume would have started what the dump's end has ended.
        let filters = ["--filter", "event=start", "--filter", &format!("container=nova-{id}")];
        let times = ["--since", "1h", "--until", "-1s", "--format", "{{.Action}}"];
        let starts = door.docker.docker(&[["events"].as_slice(), &filters, &times].concat()).await;
        assert_eq!(starts.trim(), "start");
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

tests!(
    a_resume_whose_caller_is_gone_before_its_turn_is_not_done,
    a_deletion_ends_the_way_to_disk_and_goes_on,
    a_connection_survives_a_restart_of_the_host_and_nobody_starts_the_server_before_it_is_resumed,
    what_cannot_be_dumped_is_frozen_or_refused_with_the_reason_and_runs_on,
    whatever_takes_the_place_of_a_suspended_guest_leaves_nothing_of_its_memory_on_disk,
);
