use std::fs;

use super::*;
use crate::cloud::{Credentials, Named, Scope};

/// A configuration with everything that must be there, and more.
fn settings<'a>(more: &[((&'a str, &'a str), &'a str)]) -> Settings {
    let mut map = vec![(("DEFAULT", "transport_url"), "rabbit://nova:pw@127.0.0.1:5672/")];
    for section in ["placement", "neutron"] {
        map.extend([
            ((section, "auth_type"), "password"),
            ((section, "auth_url"), "http://127.0.0.1:5000/v3"),
            ((section, "username"), section),
            ((section, "password"), "secret-password"),
            ((section, "user_domain_name"), "Default"),
            ((section, "project_name"), "service"),
            ((section, "project_domain_name"), "Default"),
        ]);
    }
    map.extend(more);
    Settings::from_map(map)
}

fn good(more: &[((&str, &str), &str)]) -> Config {
    from_settings(&settings(more), &[]).unwrap_or_else(|errors| panic!("{errors:#?}")).0
}

fn errors(settings: &Settings) -> Vec<String> {
    from_settings(settings, &[]).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn only_error(more: &[((&str, &str), &str)]) -> String {
    let mut errors = errors(&settings(more));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

#[test]
fn the_least_configuration_has_novas_defaults() {
    let config = good(&[]);
    assert_eq!(config.report_interval, Duration::from_secs(10));
    assert_eq!(config.vif_plugging_timeout, Duration::from_secs(300));
    assert!(config.vif_plugging_is_fatal);
    assert_eq!(config.messaging.control_exchange, "nova");
    assert_eq!(config.reserved_host_memory_mb, 512);
    assert_eq!((config.cpu_allocation_ratio, config.initial_cpu_allocation_ratio), (None, 4.0));
    assert_eq!(config.update_resources_interval, Some(Duration::from_secs(60)));
    assert_eq!(config.heal_instance_info_cache_interval, None);
    assert_eq!(config.running_deleted_instance_action, RunningDeletedAction::Reap);
    assert_eq!(config.ovs.ovsdb_connection, "tcp:127.0.0.1:6640");
    assert_eq!(config.instances_path, PathBuf::from("/var/lib/nova/instances"));
    assert!(config.docker.registry_listen.ip().is_loopback());
    assert_eq!(config.cloud.neutron.endpoint.valid_interfaces, ["internal", "public"]);
    assert!(!config.host.is_empty());
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nova.conf");
    let text = "\
[DEFAULT]
report_interval = often
vif_plugging_is_fatal = perhaps
rubbish
[placement]
auth_type = password
auth_url = keystone
password = hunter2
[neutron]
auth_type = kerberos
[docker]
pid_limit = 5
registry_listen = 0.0.0.0:5999
[libvirt]
virt_type = anything goes
";
    fs::write(&file, text).unwrap();
    let errors = load(&[Source::File(file.clone())]).unwrap_err();
    let report = errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
        .replace(&*file.to_string_lossy(), "nova.conf");
    for expected in [
        "nova.conf:2: [DEFAULT] report_interval = \"often\": expected an integer from 1 to 86400",
        "nova.conf:3: [DEFAULT] vif_plugging_is_fatal = \"perhaps\": expected true or false (or on/off, yes/no, 1/0)",
        "nova.conf:4: expected [section], option = value or a comment",
        "[DEFAULT] transport_url is not set",
        "nova.conf:7: [placement] auth_url = \"keystone\": expected a URL that begins with http:// or https://",
        "[placement] username is not set",
        "[placement] project_name is not set",
        "nova.conf:10: [neutron] auth_type = \"kerberos\": expected one of password, v3password, v3applicationcredential",
        "nova.conf:12: [docker] has no option pid_limit; did you mean pids_limit?",
        "nova.conf:13: [docker] registry_listen = \"0.0.0.0:5999\": expected a loopback address",
    ] {
        assert!(report.contains(expected), "missing: {expected}\nin:\n{report}");
    }
    assert_eq!(errors.len(), 10, "{report}");
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn a_bad_secret_is_never_shown() {
    let report = only_error(&[(("DEFAULT", "transport_url"), "amqp://nova:hunter2@h")]);
    assert!(report.contains("transport_url: expected rabbit://") && !report.contains("hunter2"), "{report}");
    let report = only_error(&[(("placement", "password"), "hunter$two")]);
    assert!(report.contains("write $$") && !report.contains("two"), "{report}");
}

#[test]
fn the_debug_form_of_a_configuration_shows_no_secret() {
    let text = format!("{:?}", good(&[]));
    assert!(text.contains("placement") && !text.contains("secret-password") && !text.contains(":pw@"), "{text}");
    assert!(!text.contains("\"pw\""), "{text}");
}

#[test]
fn references_to_other_options_are_followed() {
    let config = good(&[
        (("DEFAULT", "state_path"), "/srv/$host"),
        (("DEFAULT", "host"), "compute-7"),
        (("docker", "cache_directory"), "${state_path}/layers"),
        (("placement", "password"), "a$$b\\$c"),
        (("neutron", "password"), "$placement.password"),
        (("DEFAULT", "dhcp_domain"), "costs 5$ and $5"),
    ]);
    assert_eq!(config.state_path, PathBuf::from("/srv/compute-7"));
    assert_eq!(config.docker.cache_directory, PathBuf::from("/srv/compute-7/layers"));
    assert_eq!(config.metadata.dhcp_domain, "costs 5$ and $5");
    for auth in [config.cloud.placement.auth, config.cloud.neutron.auth] {
        let Some(Credentials::Password { password, .. }) = auth.map(|auth| auth.credentials) else {
            panic!("no password")
        };
        assert_eq!(secrecy::ExposeSecret::expose_secret(&password), "a$b$c");
    }
}

#[test]
fn a_reference_to_itself_is_a_mistake_and_not_the_end_of_the_stack() {
    let report = only_error(&[(("DEFAULT", "dhcp_domain"), "x.$dhcp_domain")]);
    assert!(report.contains("dhcp_domain") && report.contains("reference"), "{report}");
}

#[test]
fn options_of_others_are_ignored_except_in_our_section() {
    good(&[(("libvirt", "virt_type"), "nonsense"), (("DEFAULT", "my_own_option"), "1")]);
    let report = only_error(&[(("docker", "compute_driver"), "x")]);
    assert!(report.ends_with("[docker] has no option compute_driver"), "{report}");
}

#[test]
fn ratios_of_zero_mean_unset() {
    let config = good(&[(("DEFAULT", "cpu_allocation_ratio"), "0.0"), (("DEFAULT", "ram_allocation_ratio"), "1.5")]);
    assert_eq!((config.cpu_allocation_ratio, config.ram_allocation_ratio), (None, Some(1.5)));
}

#[test]
fn an_interval_of_zero_is_the_default_rate_and_minus_one_is_off() {
    let config = good(&[
        (("DEFAULT", "sync_power_state_interval"), "0"),
        (("DEFAULT", "scheduler_instance_sync_interval"), "-1"),
        (("DEFAULT", "heal_instance_info_cache_interval"), "240"),
    ]);
    assert_eq!(config.sync_power_state_interval, Some(Duration::from_secs(60)));
    assert_eq!(config.scheduler_instance_sync_interval, None);
    assert_eq!(config.heal_instance_info_cache_interval, Some(Duration::from_secs(240)));
}

#[test]
fn identities_are_read_as_keystoneauth_has_them() {
    let config = good(&[
        (("service_user", "auth_section"), "placement"),
        (("service_user", "send_service_user_token"), "true"),
        (("glance", "auth_type"), "v3applicationcredential"),
        (("glance", "auth_url"), "https://keystone/identity"),
        (("glance", "application_credential_id"), "abc"),
        (("glance", "application_credential_secret"), "s"),
        (("glance", "region_name"), "RegionOne"),
        (("glance", "valid_interfaces"), "publicURL, admin"),
        (("glance", "cafile"), "/etc/ssl/ca.pem"),
        (("glance", "timeout"), "2.5"),
        (("neutron", "endpoint_override"), "http://neutron:9696"),
    ]);
    assert!(config.cloud.send_service_user_token);
    let service_user = config.cloud.service_user.unwrap();
    assert!(
        matches!(service_user.credentials, Credentials::Password { user: Named::Name(name), .. } if name == "placement")
    );
    let project =
        Scope::Project { project: Named::Name("service".into()), domain: Some(Named::Name("Default".into())) };
    assert_eq!(service_user.scope, project);
    let glance = config.cloud.glance;
    assert_eq!(glance.endpoint.valid_interfaces, ["public", "admin"]);
    assert_eq!(glance.endpoint.region_name.as_deref(), Some("RegionOne"));
    assert_eq!(glance.timeout, Some(Duration::from_millis(2500)));
    let auth = glance.auth.unwrap();
    assert!(matches!(auth.credentials, Credentials::ApplicationCredential { id: Named::Id(id), .. } if id == "abc"));
    assert_eq!((auth.scope, auth.tls.cafile), (Scope::Unscoped, Some("/etc/ssl/ca.pem".into())));
    assert_eq!(config.cloud.neutron.endpoint.endpoint_override.unwrap().as_str(), "http://neutron:9696/");
}

#[test]
fn a_service_token_needs_a_service_user() {
    let report = only_error(&[(("service_user", "send_service_user_token"), "true")]);
    assert!(report.starts_with("[service_user] auth_type is not set"), "{report}");
}

#[test]
fn options_of_the_message_bus_reach_it_also_by_old_names_and_by_url() {
    let config = good(&[
        (("DEFAULT", "transport_url"), "rabbit://nova:pw@h:5671/cell?rabbit_qos_prefetch_count=7"),
        (("oslo_messaging_rabbit", "rabbit_quorum_queue"), "true"),
        (("oslo_messaging_rabbit", "rabbit_use_ssl"), "on"),
        (("oslo_messaging_rabbit", "kombu_reconnect_timeout"), "12"),
    ]);
    assert!(config.messaging.quorum && config.messaging.tls.enabled);
    assert_eq!(config.messaging.missing_consumer_timeout, Duration::from_secs(12));
    assert_eq!(config.messaging.prefetch, 7);
}

#[test]
fn the_listing_shows_every_option_with_its_origin_and_no_secret() {
    let (_, listing) = from_settings(&settings(&[(("DEFAULT", "host"), "compute-7")]), &[]).unwrap();
    let text = listing.to_string();
    assert!(text.contains("(given)\nhost = compute-7\n"), "{text}");
    assert!(text.contains("(default)\nreport_interval = 10\n"), "{text}");
    assert!(text.contains("password = <hidden>") && text.contains("transport_url = <hidden>"), "{text}");
    assert!(!text.contains("secret-password") && !text.contains(":pw@"), "{text}");
    assert!(text.starts_with("[DEFAULT]\n"), "{text}");
}

#[test]
fn the_listing_of_secrets_apart_is_a_configuration_of_the_same_meaning() {
    let (config, listing) = from_settings(&settings(&[(("docker", "pids_limit"), "99")]), &[]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = listing.to_string().replace("transport_url = <hidden>", "transport_url = rabbit://a:b@c/");
    fs::write(file.path(), text).unwrap();
    let (again, _) = load(&[Source::File(file.path().into())]).unwrap();
    assert_eq!((again.docker.pids_limit, again.host), (99, config.host));
    assert_eq!(again.config_directories, [file.path().parent().unwrap()]);
}

#[test]
fn the_second_door_is_a_socket_unless_an_address_has_all_that_mutual_tls_needs() {
    let config = good(&[]);
    assert_eq!(config.grpc.listen, GrpcListen::Unix("/run/nova-docker-agent/driver.sock".into()));
    let report = only_error(&[
        (("docker_grpc", "listen"), "https://127.0.0.1:7400"),
        (("docker_grpc", "tls_certificate"), "/c.pem"),
        (("docker_grpc", "tls_key"), "/k.pem"),
    ]);
    assert!(report.starts_with("[docker_grpc] tls_client_ca is not set"), "{report}");
    let report = only_error(&[(("docker_grpc", "listen"), "http://127.0.0.1:7400")]);
    assert!(report.contains("https://ADDRESS:PORT"), "{report}");
}

#[test]
fn the_networks_whose_routers_are_heeded_are_ids() {
    let of = |ids: &str| good(&[(("docker", "accept_ra_networks"), ids)]).docker.accept_ra_networks;
    let id = "5a3d9a1e-4ff5-4e4c-8a6b-6f1a2d8b9c0d";
    assert_eq!(of(id).into_iter().collect::<Vec<_>>(), [Uuid::parse_str(id).unwrap()]);
    assert!(of("").is_empty());
    let error = only_error(&[(("docker", "accept_ra_networks"), "provider")]);
    assert!(error.contains("accept_ra_networks") && error.contains("ids of networks"), "{error}");
}

#[test]
fn the_metadata_service_is_looked_for_as_the_dhcp_agents_are_set() {
    let of = |choice: &str| good(&[(("docker", "metadata_route"), choice)]).docker.metadata_route;
    assert_eq!(good(&[]).docker.metadata_route, MetadataRoute::Isolated);
    assert_eq!((of("dhcp"), of("gateway")), (MetadataRoute::Dhcp, MetadataRoute::Gateway));
}
