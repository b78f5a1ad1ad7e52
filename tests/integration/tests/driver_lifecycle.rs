//! Instances in a real Docker: network, limits, start, stop, pause, remove.

use std::time::{Duration, Instant};

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{guest, interface, until_logged};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use integration_tests::process::run;
use nova_docker_agent::docker::{Docker, Error};
use nova_docker_agent::guest::{Guest, PowerState, PublicKey};
use nova_docker_agent::limits::StopTimeout;
use nova_docker_agent::network::{Interface, NetworkConfig, PORTS_DIRECTORY, Plumber};
use uuid::Uuid;

const GRACE: Duration = Duration::from_secs(1);
const KILLED: PowerState = PowerState::Stopped { exit_code: 137 };

async fn launch(driver: &Docker, guest: &Guest) {
    driver.create(guest, IMAGE, &[]).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

async fn inside(docker: &Dockerd, guest: &Guest, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{}", guest.uuid), "sh", "-c", command]).await
}

fn the_interfaces_are_there_at_the_first_instruction_and_outlive_the_process() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = guest("sh -c 'ip addr; echo BOOTED; exec sleep 1000'");
        let mut interfaces = [interface(0, 5), interface(1, 5)];
        interfaces[0].dns = vec!["192.0.2.53".parse().unwrap()];
        plumber.plug(guest.uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        driver.started_well(guest.uuid, GRACE).await.unwrap();

        let log = until_logged(&driver, guest.uuid, "BOOTED").await;
        for wanted in ["lo:", "eth0", "eth1", "fa:16:3e:00:00:05", "10.9.0.5/24", "fd00:0::5/64", "10.9.1.5/24"] {
            let wanted = wanted.replace("fd00:0::5", "fd00::5");
            assert!(log.contains(&wanted), "{wanted} is not in {log}");
        }
        assert_eq!(inside(&docker, &guest, "hostname").await, "test-host");
        assert!(inside(&docker, &guest, "cat /etc/hosts").await.contains("10.9.0.5\ttest-host"));
        assert_eq!(inside(&docker, &guest, "grep nameserver /etc/resolv.conf").await, "nameserver 192.0.2.53");
        inside(&docker, &guest, "ping -c 1 -W 120 10.9.0.5").await;

        driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let addresses = inside(&docker, &guest, "ip addr").await;
        assert!(addresses.contains("10.9.1.5/24") && addresses.contains("fd00:1::5/64"), "{addresses}");
        driver.remove(guest.uuid).await.unwrap();
        let namespace = format!("nova-{}", guest.uuid);
        assert!(
            run("ip", &["-n", &namespace, "addr"]).await.contains("10.9.0.5/24"),
            "the network went with the container"
        );
        assert_eq!(std::fs::read_dir(docker.links()).unwrap().count(), 0, "a link stays");
        plumber.unplug(guest.uuid, &[]).await.unwrap();
    });
}

/// Whether the host side of an interface is up.
async fn is_up(interface: &Interface) -> bool {
    run("ip", &["-o", "link", "show", &interface.devname]).await.contains(",UP")
}

fn the_interfaces_are_up_only_while_the_process_runs() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = guest("sh -c 'trap \"exit 3\" USR1; while :; do sleep 0.1; done'");
        let uuid = guest.uuid;
        let [first, second] = [interface(0, 5), interface(1, 5)];
        let both = [first.clone(), second.clone()];
        plumber.declare(uuid, false).await.unwrap();
        plumber.plug(uuid, std::slice::from_ref(&first)).await.unwrap();
        driver.create(&guest, IMAGE, std::slice::from_ref(&first)).await.unwrap();
        assert!(!is_up(&first).await, "nothing runs");
        driver.start(uuid).await.unwrap();
        assert!(is_up(&first).await);

        driver.pause(uuid).await.unwrap();
        plumber.plug(uuid, &both).await.unwrap();
        assert!(!is_up(&first).await && !is_up(&second).await, "its process is frozen");
        driver.unpause(uuid).await.unwrap();
        assert!(is_up(&first).await && is_up(&second).await);
        plumber.unplug_port(uuid, second.port_id).await.unwrap();
        plumber.plug(uuid, &both).await.unwrap();
        assert!(is_up(&second).await, "one that comes while the process runs");

        docker.signal(uuid, "USR1").await;
        let down = async || !is_up(&first).await && !is_up(&second).await;
        until("the interfaces of a process that has ended by itself are down", down).await;
        driver.start(uuid).await.unwrap();
        assert!(is_up(&first).await && is_up(&second).await);
        driver.stop(uuid, StopTimeout::KILL).await.unwrap();
        plumber.plug(uuid, &both).await.unwrap();
        assert!(down().await, "plugging again changes nothing");

        // One that was started before anybody wrote that down.
        driver.start(uuid).await.unwrap();
        let record = std::path::Path::new(PORTS_DIRECTORY).join(format!("nova-{uuid}.up"));
        std::fs::remove_file(&record).unwrap();
        plumber.declare(uuid, true).await.unwrap();
        plumber.plug(uuid, &both).await.unwrap();
        assert!(is_up(&first).await);
        driver.stop(uuid, StopTimeout::KILL).await.unwrap();
        assert!(down().await);
        driver.remove(uuid).await.unwrap();
        plumber.unplug(uuid, &[]).await.unwrap();
        assert!(!record.exists(), "a record stays");
    });
}

fn a_process_that_ends_with_a_code_of_its_own_when_it_is_stopped_has_not_crashed() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("sh -c 'trap \"exit 3\" TERM USR1; echo UP; while :; do sleep 0.1; done'");
        let uuid = guest.uuid;
        launch(&driver, &guest).await;
        until_logged(&driver, uuid, "UP").await;
        driver.stop(uuid, StopTimeout::of_container(Duration::from_secs(3600))).await.unwrap();
        let stopped = Some(PowerState::Stopped { exit_code: 3 });
        assert_eq!(driver.state(uuid).await.unwrap(), stopped);
        assert_eq!(docker.driver().await.state(uuid).await.unwrap(), stopped, "an agent that was started later");

        driver.start(uuid).await.unwrap();
        until_logged(&driver, uuid, "UP\nUP").await;
        docker.signal(uuid, "USR1").await;
        let crashed = Some(PowerState::Crashed { exit_code: 3, oom: false });
        until("it has ended by itself", async || driver.state(uuid).await.unwrap() == crashed).await;
        driver.stop(uuid, StopTimeout::of_container(Duration::from_secs(3600))).await.unwrap();
        assert_eq!(driver.state(uuid).await.unwrap(), crashed, "nothing of it was there to be stopped");
        driver.remove(uuid).await.unwrap();
        assert_eq!(std::fs::read_dir(docker.path("stops")).unwrap().count(), 0, "a note stays");
    });
}

fn a_process_that_takes_its_hour_to_end_is_killed_when_the_operators_limit_is_over() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("sh -c 'trap : TERM; echo UP; while :; do sleep 0.1; done'");
        launch(&driver, &guest).await;
        until_logged(&driver, guest.uuid, "UP").await;
        let hour = StopTimeout::of_container(Duration::from_secs(3600));
        driver.stop_within(guest.uuid, hour, Duration::from_millis(100)).await.unwrap();
        until("it is down", async || driver.state(guest.uuid).await.unwrap() == Some(KILLED)).await;
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn an_instance_does_not_start_without_its_network() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("sleep 1000");
        driver.create(&guest, IMAGE, &[interface(0, 5)]).await.unwrap();
        let error = driver.start(guest.uuid).await.unwrap_err();
        assert!(matches!(error, Error::NetworkMissing { .. }), "{error}");
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Created));
    });
}

fn the_flavors_limits_are_in_the_control_groups() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        // More processors than this machine has: that is what overcommitting is.
        let guest = Guest { vcpus: 64, memory_mb: 48, swap_mb: 16, ..guest("sleep 1000") };
        launch(&driver, &guest).await;
        let pid = docker.docker(&["inspect", "-f", "{{.State.Pid}}", &format!("nova-{}", guest.uuid)]).await;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let read = |controller: &str, v1: &str, v2: &str| {
            let v1_group = groups.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                names.split(',').any(|name| name == controller).then_some(path)
            });
            let file = match v1_group {
                Some(path) => format!("/sys/fs/cgroup/{controller}{path}/{v1}"),
                None => format!("/sys/fs/cgroup{}/{v2}", groups.trim().trim_start_matches("0::")),
            };
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            (v1_group.is_some(), text.trim().to_owned())
        };
        let mib = |count: u64| (count << 20).to_string();
        assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max").1, mib(48));
        match read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max") {
            (true, both) => assert_eq!(both, mib(64)),
            (false, swap) => assert_eq!(swap, mib(16)),
        }
        match read("cpu", "cpu.cfs_quota_us", "cpu.max") {
            (true, quota) => assert_eq!(quota, "6400000"),
            (false, quota) => assert_eq!(quota, "6400000 100000"),
        }
        assert_eq!(read("pids", "pids.max", "pids.max").1, "4096");
    });
}

fn an_instance_has_few_privileges_and_yet_those_of_a_small_machine() {
    on_host(async |host| {
        let (docker, plumber) = (host.docker().await, Plumber::new(NetworkConfig::default()));
        let driver = docker.driver().await;
        let guest = guest("sleep 1000");
        plumber.plug(guest.uuid, &[]).await.unwrap();
        launch(&driver, &guest).await;
        let status = inside(&docker, &guest, "cat /proc/self/status").await;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!(field("Seccomp"), "2");
        let effective = u64::from_str_radix(&field("CapEff"), 16).unwrap();
        let has = |number: u32| effective >> number & 1 == 1;
        // chown, kill, setuid, net_bind_service, net_raw, sys_chroot, audit_write
        assert!([0, 5, 7, 10, 13, 18, 29].into_iter().all(has), "{effective:x}");
        // net_admin, sys_module, sys_ptrace, sys_admin, mknod
        assert!(![12, 16, 19, 21, 27].into_iter().any(has), "{effective:x}");
        assert!(
            inside(&docker, &guest, "ls /proc/1/ns/ipc && mknod /tmp/d b 8 0 || echo refused")
                .await
                .contains("refused")
        );
        assert_eq!(inside(&docker, &guest, "su user -c 'id -u'").await, "1000");
        // What a ping without privileges needs; Debian's busybox, which the test image is made of, has no such ping.
        assert_eq!(inside(&docker, &guest, "cat /proc/sys/net/ipv4/ping_group_range").await, "0\t2147483647");
    });
}

fn the_key_pair_is_roots_alone() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let key = PublicKey { name: "mine".to_owned(), data: "ssh-ed25519 AAAAC3 me@here".to_owned() };
        let guest = Guest { key: Some(key), ..guest("sleep 1000") };
        launch(&driver, &guest).await;
        assert_eq!(inside(&docker, &guest, "cat /root/.ssh/authorized_keys").await, "ssh-ed25519 AAAAC3 me@here");
        let modes = inside(&docker, &guest, "stat -c '%a %u' /root /root/.ssh /root/.ssh/authorized_keys").await;
        assert_eq!(modes, "755 0\n700 0\n600 0");
    });
}

fn a_stop_asks_first_and_kills_later() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let polite = guest("sh -c 'trap \"echo BYE; exit 0\" TERM; echo UP; while :; do sleep 0.1; done'");
        launch(&driver, &polite).await;
        until_logged(&driver, polite.uuid, "UP").await;
        driver.stop(polite.uuid, StopTimeout::of_operator(PATIENCE)).await.unwrap();
        assert_eq!(driver.state(polite.uuid).await.unwrap(), Some(PowerState::Stopped { exit_code: 0 }));
        assert!(driver.console(polite.uuid, None).await.unwrap().contains("BYE"));

        let deaf = guest("sh -c 'trap : TERM; echo UP; while :; do sleep 0.1; done'");
        launch(&driver, &deaf).await;
        until_logged(&driver, deaf.uuid, "UP").await;
        let begun = Instant::now();
        driver.stop(deaf.uuid, StopTimeout::of_operator(Duration::from_secs(2))).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(2), "killed after {:?}", begun.elapsed());
        assert_eq!(driver.state(deaf.uuid).await.unwrap(), Some(KILLED));

        let unasked = guest("sh -c 'trap \"echo ASKED\" TERM; echo UP; while :; do sleep 0.1; done'");
        launch(&driver, &unasked).await;
        until_logged(&driver, unasked.uuid, "UP").await;
        driver.stop(unasked.uuid, StopTimeout::KILL).await.unwrap();
        assert_eq!(driver.state(unasked.uuid).await.unwrap(), Some(KILLED));
        assert_eq!(driver.console(unasked.uuid, None).await.unwrap(), "UP\n");
        // It is stopped: once more is no failure, in either way.
        driver.stop(unasked.uuid, StopTimeout::KILL).await.unwrap();
        driver.stop(unasked.uuid, StopTimeout::of_operator(Duration::from_secs(1))).await.unwrap();
    });
}

fn a_paused_instance_can_be_thawed_stopped_and_killed() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let command = "sh -c 'trap \"echo BYE; exit 0\" TERM; echo UP; while :; do sleep 0.1; done'";
        let thawed = guest(command);
        launch(&driver, &thawed).await;
        driver.pause(thawed.uuid).await.unwrap();
        driver.pause(thawed.uuid).await.unwrap();
        assert_eq!(driver.state(thawed.uuid).await.unwrap(), Some(PowerState::Paused));
        driver.unpause(thawed.uuid).await.unwrap();
        driver.unpause(thawed.uuid).await.unwrap();
        let state = async || driver.state(thawed.uuid).await.unwrap();
        until("it runs", async || state().await == Some(PowerState::Running)).await;

        // Another one: Docker 20.10 may hear late from containerd that a container was frozen and thawed, and believe it
        // again.
        let guest = guest(command);
        launch(&driver, &guest).await;
        until_logged(&driver, guest.uuid, "UP").await;
        driver.pause(guest.uuid).await.unwrap();
        driver.stop(guest.uuid, StopTimeout::of_operator(PATIENCE)).await.unwrap();
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Stopped { exit_code: 0 }));

        driver.start(guest.uuid).await.unwrap();
        driver.pause(guest.uuid).await.unwrap();
        driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(KILLED));

        driver.start(guest.uuid).await.unwrap();
        driver.pause(guest.uuid).await.unwrap();
        driver.remove(guest.uuid).await.unwrap();
        assert_eq!(driver.state(guest.uuid).await.unwrap(), None);
    });
}

fn containers_are_told_apart_by_their_whole_name_and_their_label() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (ours, other) = (guest("sleep 1000"), Uuid::new_v4());
        for name in [format!("nova-{other}-copy"), format!("x-nova-{other}"), format!("nova-{other}")] {
            docker.docker(&["create", "--name", &name, IMAGE]).await;
        }
        launch(&driver, &ours).await;
        assert_eq!(driver.state(other).await.unwrap(), None);
        driver.remove(other).await.unwrap();
        assert!(matches!(driver.start(other).await, Err(Error::NotFound { .. })));
        let listed = driver.list().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].uuid, listed[0].state), (ours.uuid, PowerState::Running));
        assert_eq!(listed[0].compute_id, "compute-of-the-test");
        driver.remove(ours.uuid).await.unwrap();
        driver.remove(ours.uuid).await.unwrap();
        assert_eq!(docker.docker(&["ps", "-aq"]).await.lines().count(), 3, "foreign containers were touched");
    });
}

fn the_host_is_described() {
    on_host(async |host| {
        let docker = host.docker().await;
        let host = docker.driver().await.host().await.unwrap();
        assert_eq!(host.vcpus as usize, std::thread::available_parallelism().unwrap().get());
        assert!(host.memory_mb > host.memory_used_mb && host.memory_used_mb > 0, "{host:?}");
        assert!(host.disk_gb > host.disk_used_gb, "{host:?}");
        assert!(host.docker_version.starts_with(|first: char| first.is_ascii_digit()), "{host:?}");
        assert_eq!(host.api_version, docker.docker(&["version", "-f", "{{.Server.APIVersion}}"]).await);
        assert_eq!(host.kernel, run("uname", &["-r"]).await.trim());
    });
}

tests! {
    the_interfaces_are_there_at_the_first_instruction_and_outlive_the_process,
    the_interfaces_are_up_only_while_the_process_runs,
    a_process_that_ends_with_a_code_of_its_own_when_it_is_stopped_has_not_crashed,
    a_process_that_takes_its_hour_to_end_is_killed_when_the_operators_limit_is_over,
    an_instance_does_not_start_without_its_network,
    the_flavors_limits_are_in_the_control_groups,
    an_instance_has_few_privileges_and_yet_those_of_a_small_machine,
    the_key_pair_is_roots_alone,
    a_stop_asks_first_and_kills_later,
    a_paused_instance_can_be_thawed_stopped_and_killed,
    containers_are_told_apart_by_their_whole_name_and_their_label,
    the_host_is_described,
}
