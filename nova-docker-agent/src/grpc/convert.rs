//! From the contract's messages to the core's words, and back.

use nova_docker_proto::v1;
use tonic::Status;
use uuid::Uuid;

use super::status::invalid;
use crate::{
    driver::{self, Port, Subnet},
    guest::{
        Configuration, Event, EventKind, Guest, GuestSummary, Health, HostResources, Inside, Peers, PowerState,
        PublicKey, configuration::Sources,
    },
    network::Interface,
    registry::ImageDescriptor,
};

pub(super) fn uuid(field: &str, text: &str) -> Result<Uuid, Status> {
    Uuid::parse_str(text).map_err(|_| invalid(field, format_args!("{text:?} is not a UUID")))
}

pub(super) fn guest(guest: v1::Guest, image: &v1::Image) -> Result<Guest, Status> {
    for (field, amount) in [("guest.vcpus", u64::from(guest.vcpus)), ("guest.memory_mib", guest.memory_mib)] {
        if amount == 0 {
            return Err(invalid(field, "must be at least 1"));
        }
    }
    let uuid = uuid("guest.guest_id", &guest.guest_id)?;
    let sources = Sources {
        properties: image.properties.clone().into_iter().collect(),
        extra_specs: guest.extra_specs.into_iter().collect(),
        metadata: guest.metadata.into_iter().collect(),
        user_data: guest.user_data,
        environment: guest.environment.into_iter().collect(),
        memory_mb: guest.memory_mib,
    };
    let configuration =
        Configuration::parse(&sources).map_err(|mistakes| super::status::failure(&mistakes.into(), uuid, None))?;
    Ok(Guest {
        uuid,
        name: guest.name,
        hostname: guest.hostname,
        project_id: guest.project_id,
        user_id: guest.user_id,
        vcpus: guest.vcpus,
        memory_mb: guest.memory_mib,
        root_gb: guest.root_gib,
        swap_mb: guest.swap_mib,
        configuration,
        links: guest.links.map_or_else(|| Ok(Peers::default()), |found| super::links::peers(uuid, found))?,
        key: guest.key.map(|key| PublicKey { name: key.name, data: key.data }),
        rescues: false,
        inside: Inside::default(),
        created_by: guest.owner,
    })
}

pub(super) fn image(image: &v1::Image) -> Result<ImageDescriptor, Status> {
    Ok(ImageDescriptor {
        id: uuid("image.image_id", &image.image_id)?,
        name: (!image.name.is_empty()).then(|| image.name.clone()),
        size: image.size,
        container_format: image.container_format.clone(),
        disk_format: image.disk_format.clone(),
        content_hash: image.content_hash.clone(),
    })
}

pub(super) fn interfaces(guest: Uuid, interfaces: Vec<v1::Interface>) -> Result<Vec<Interface>, Status> {
    let ports = interfaces.into_iter().map(port).collect::<Result<Vec<_>, _>>()?;
    driver::interfaces(&ports).map_err(|error| super::status::failure(&error, guest, None))
}

fn port(interface: v1::Interface) -> Result<Port, Status> {
    Ok(Port {
        id: uuid("interface.port_id", &interface.port_id)?,
        network: interface.network_id.as_deref().map(|id| uuid("interface.network_id", id)).transpose()?,
        mac: interface.mac_address,
        vif_type: (!interface.vif_type.is_empty()).then_some(interface.vif_type),
        hybrid_plug: interface.hybrid_plug,
        devname: interface.device_name,
        bridge: Some(interface.bridge),
        mtu: interface.mtu,
        subnets: interface.subnets.into_iter().map(subnet).collect(),
        // The contract has no more than what Nova tells its drivers.
        search: Vec::new(),
        dhcp_options: Vec::new(),
    })
}

fn subnet(subnet: v1::Subnet) -> Subnet {
    Subnet {
        cidr: subnet.cidr,
        addresses: subnet.addresses,
        gateway: subnet.gateway,
        dns: subnet.dns_servers,
        resolvers: subnet.dhcp_server.iter().cloned().collect(),
        dhcp_server: subnet.dhcp_server,
        metadata_via: None,
        routes: subnet.routes.into_iter().map(|route| (route.destination, route.via)).collect(),
    }
}

pub(super) fn guest_state(guest: &GuestSummary) -> v1::GuestState {
    let (power_state, exit_code) = power_state(guest.state);
    v1::GuestState {
        guest_id: guest.uuid.to_string(),
        power_state: power_state.into(),
        exit_code,
        owner: guest.compute_id.clone(),
        health: health(guest.health).into(),
        script_exit_code: guest.script.map(|code| i32::try_from(code).unwrap_or(i32::MAX)),
    }
}

pub(super) fn health(health: Option<Health>) -> v1::GuestHealth {
    match health {
        None => v1::GuestHealth::Unspecified,
        Some(Health::Starting) => v1::GuestHealth::Starting,
        Some(Health::Healthy) => v1::GuestHealth::Healthy,
        Some(Health::Unhealthy) => v1::GuestHealth::Unhealthy,
    }
}

fn power_state(state: PowerState) -> (v1::PowerState, Option<i32>) {
    let code = |code: i64| i32::try_from(code).ok();
    match state {
        PowerState::Created => (v1::PowerState::Created, None),
        PowerState::Running => (v1::PowerState::Running, None),
        PowerState::Paused => (v1::PowerState::Paused, None),
        PowerState::Suspended => (v1::PowerState::Suspended, None),
        PowerState::Stopped { exit_code } => (v1::PowerState::Stopped, code(exit_code)),
        PowerState::Crashed { exit_code, .. } => (v1::PowerState::Crashed, code(exit_code)),
    }
}

pub(super) fn resources(host: HostResources) -> v1::HostResources {
    let seconds = i64::try_from(host.uptime).unwrap_or(i64::MAX);
    v1::HostResources {
        vcpus: host.vcpus,
        memory_mib: host.memory_mb,
        memory_used_mib: host.memory_used_mb,
        disk_gib: host.disk_gb,
        disk_used_gib: host.disk_used_gb,
        docker_version: host.docker_version,
        api_version: host.api_version,
        storage_driver: host.storage_driver,
        quota_enforced: host.quota_enforced,
        architecture: host.arch,
        kernel: host.kernel,
        uptime: Some(prost_types::Duration { seconds, nanos: 0 }),
        load_average: host.load.to_vec(),
        traits: vec![driver::TRAIT.to_owned()],
    }
}

pub(super) fn event(event: Event) -> v1::WatchEventsResponse {
    use v1::watch_events_response::Event as Sent;
    let host = |kind: v1::HostEventKind, message: &str| {
        Sent::Host(v1::HostEvent { kind: kind.into(), message: message.to_owned() })
    };
    let event = match event {
        Event::Guest { uuid, kind } => {
            let (kind, exit_code, found) = match kind {
                EventKind::Started => (v1::GuestEventKind::Started, None, None),
                EventKind::Died { exit_code, .. } => (v1::GuestEventKind::Stopped, i32::try_from(exit_code).ok(), None),
                EventKind::Paused => (v1::GuestEventKind::Paused, None, None),
                EventKind::Unpaused => (v1::GuestEventKind::Resumed, None, None),
                EventKind::ScriptEnded => (v1::GuestEventKind::ScriptEnded, None, None),
                EventKind::Destroyed => (v1::GuestEventKind::Deleted, None, None),
                EventKind::Health(found) => (v1::GuestEventKind::HealthChanged, None, Some(found)),
            };
            let health = health(found).into();
            Sent::Guest(v1::GuestEvent { guest_id: uuid.to_string(), kind: kind.into(), exit_code, health })
        }
        Event::DockerLost => host(v1::HostEventKind::DockerLost, "Docker does not answer on this host"),
        Event::DockerBack => host(v1::HostEventKind::DockerBack, "Docker answers again"),
    };
    v1::WatchEventsResponse { event: Some(event) }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn message() -> v1::Guest {
        v1::Guest { guest_id: Uuid::nil().to_string(), vcpus: 1, memory_mib: 64, ..v1::Guest::default() }
    }

    #[test]
    fn a_field_that_has_no_meaning_is_named() {
        let none = v1::Image::default();
        let refused = |guest| super::guest(guest, &none).unwrap_err().message().to_owned();
        assert!(refused(v1::Guest { guest_id: "7".into(), ..message() }).starts_with("guest.guest_id: \"7\""));
        assert!(refused(v1::Guest { memory_mib: 0, ..message() }).starts_with("guest.memory_mib"));
        assert!(super::guest(message(), &none).is_ok());
    }

    #[test]
    fn every_source_configures_the_container() {
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let image = |line| v1::Image { properties: [text("os_command_line", line)].into(), ..v1::Image::default() };
        let guest = v1::Guest {
            metadata: [text("docker:user", "7")].into(),
            extra_specs: [text("docker:tty", "true")].into(),
            user_data: STANDARD.encode("#container-config\nworking_dir: /srv"),
            environment: [text("A", "1")].into(),
            ..message()
        };
        let made = super::guest(guest, &image("sh -c 'a b'")).unwrap().configuration;
        assert_eq!(made.command, Some(vec!["sh".into(), "-c".into(), "a b".into()]));
        assert_eq!((made.user.as_deref(), made.environment.0["A"].as_str()), (Some("7"), "1"));
        assert_eq!((made.tty, made.working_dir.as_deref()), (Some(true), Some("/srv")));
        assert!(super::guest(message(), &image("sh 'open")).is_err());
    }

    #[test]
    fn a_mistake_of_the_configuration_is_an_invalid_argument_that_names_the_key() {
        let metadata = [("docker:usr".to_owned(), "s3cret".to_owned())].into();
        let status = super::guest(v1::Guest { metadata, ..message() }, &v1::Image::default()).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with("docker:usr: there is no such key"), "{}", status.message());
        assert!(!status.message().contains("s3cret"));
    }
}
