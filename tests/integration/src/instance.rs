//! Instances and interfaces for tests.

use base64::{Engine, engine::general_purpose::STANDARD};
use nova_docker_agent::docker::Docker;
use nova_docker_agent::guest::configuration::Sources;
use nova_docker_agent::guest::{Configuration, Guest, Inside, Peers};
use nova_docker_agent::network::Interface;
use uuid::Uuid;

use crate::docker::Dockerd;
use crate::ovs::BRIDGE;
use crate::patience::until_contains;

/// An instance that runs `command` (a shell's line) in the test image.
pub fn guest(command: &str) -> Guest {
    let properties = [("os_command_line".to_owned(), command.to_owned())].into();
    let sources = Sources { properties, ..Sources::default() };
    Guest {
        uuid: Uuid::new_v4(),
        name: "test".to_owned(),
        hostname: "test-host".to_owned(),
        project_id: "project-of-the-test".to_owned(),
        user_id: "user-of-the-test".to_owned(),
        vcpus: 1,
        memory_mb: 64,
        root_gb: 1,
        swap_mb: 0,
        configuration: Configuration::parse(&sources).expect("a configuration"),
        links: Peers::default(),
        key: None,
        rescues: false,
        inside: Inside::default(),
        created_by: "compute-of-the-test".to_owned(),
    }
}

/// An instance with server metadata, without `docker:` before its keys.
pub fn configured<const N: usize>(metadata: [(&str, &str); N]) -> Guest {
    let metadata = metadata.map(|(key, value)| (format!("docker:{key}"), value.to_owned())).into();
    let sources = Sources { metadata, memory_mb: 64, ..Sources::default() };
    Guest { configuration: Configuration::parse(&sources).expect("a configuration"), ..guest("sleep 1000") }
}

/// An instance of a flavor with extra specs, and with server metadata; without a command of its own it sleeps.
pub fn flavored<const N: usize, const M: usize>(specs: [(&str, &str); N], metadata: [(&str, &str); M]) -> Guest {
    let texts =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let sources = Sources {
        properties: texts(&[("os_command_line", "sleep 1000")]),
        extra_specs: texts(&specs),
        metadata: texts(&metadata),
        memory_mb: 64,
        ..Sources::default()
    };
    Guest { configuration: Configuration::parse(&sources).expect("a configuration"), ..guest("sleep 1000") }
}

/// An instance with a service in its user data, of which there is no first line here; and that user data.
pub fn composed(service: &str) -> (Guest, String) {
    let user_data = STANDARD.encode(format!("#container-config\n{service}"));
    let sources = Sources { user_data: user_data.clone(), memory_mb: 64, ..Sources::default() };
    let configuration = Configuration::parse(&sources).expect("a configuration");
    (Guest { configuration, ..guest("sleep 1000") }, user_data)
}

/// An instance for [`dies_for_want_of_memory`].
pub fn greedy() -> Guest {
    let command = "sh -c 'trap \"tail /dev/zero\" USR1; trap \"exit 137\" USR2; echo UP; while :; do sleep 0.1; done'";
    Guest { memory_mb: 16, ..guest(command) }
}

/// Has a [`greedy`] instance that runs take more memory than it may have, and end as one that was killed for it. A process of
/// it is, and it ends when Docker knows: of a death and the want of memory that is its cause, containerd may tell the death
/// first, and Docker then never learns the cause.
pub async fn dies_for_want_of_memory(docker: &Dockerd, driver: &Docker, greedy: Uuid) {
    until_logged(driver, greedy, "UP").await;
    docker.signal(greedy, "USR1").await;
    docker.until_out_of_memory(greedy).await;
    docker.signal(greedy, "USR2").await;
}

/// Waits until the console log of an instance has `text` in it; the log.
pub async fn until_logged(driver: &Docker, uuid: Uuid, text: &str) -> String {
    until_contains(text, async || driver.console(uuid, None).await.expect("a console log")).await
}

/// The `number`th interface of an instance, with an address of either family: `10.9.number.host/24`, `fd00:number::host/64`.
pub fn interface(number: u8, host: u8) -> Interface {
    let port_id = Uuid::new_v4();
    let parse = |text: String| text.parse().expect("an address");
    Interface {
        port_id,
        network_id: None,
        devname: Interface::devname_of(&port_id),
        name: format!("eth{number}"),
        mac: format!("fa:16:3e:00:{number:02x}:{host:02x}"),
        mtu: Some(1450),
        bridge: BRIDGE.to_owned(),
        addresses: vec![parse(format!("10.9.{number}.{host}/24")), parse(format!("fd00:{number}::{host}/64"))],
        gateways: vec![],
        routes: vec![],
        dns: vec![],
        search: vec![],
    }
}
