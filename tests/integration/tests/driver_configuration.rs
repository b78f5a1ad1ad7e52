//! What is asked of a container's surroundings, as its processes see it in a real Docker.

use std::time::Duration;

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{configured, interface, until_logged};
use integration_tests::on_host;
use integration_tests::patience::until;
use nova_docker_agent::guest::{Guest, PowerState};
use nova_docker_agent::limits::StopTimeout;

async fn inside(docker: &Dockerd, guest: &Guest, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{}", guest.uuid), "sh", "-c", command]).await
}

fn what_is_asked_of_the_kernel_holds_in_the_instances_own_network_after_each_start() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = configured([
            ("command", "sleep 1000"),
            ("sysctl:net.ipv4.ip_forward", "1"),
            ("sysctl:net.core.somaxconn", "77"),
            ("sysctl:kernel.shmmni", "99"),
            ("ulimit:nofile", "100:200"),
            ("oom_score_adj", "321"),
            ("group_add", "4321"),
            ("cap_drop", "ALL"),
        ]);
        let interfaces = [interface(0, 5)];
        plumber.plug(guest.uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        let settings = "cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/shmmni";
        for _ in 0..2 {
            driver.start(guest.uuid).await.unwrap();
            assert_eq!(inside(&docker, &guest, settings).await, "1\n77\n99");
            driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        }
        driver.start(guest.uuid).await.unwrap();
        assert!(inside(&docker, &guest, "ip addr").await.contains("10.9.0.5/24"));
        let limits = inside(&docker, &guest, "grep files /proc/1/limits; cat /proc/1/oom_score_adj").await;
        assert_eq!(limits.split_whitespace().collect::<Vec<_>>()[3..], ["100", "200", "files", "321"]);
        assert!(inside(&docker, &guest, "grep Groups /proc/1/status").await.contains("4321"));
        assert!(inside(&docker, &guest, "grep CapBnd /proc/1/status").await.ends_with("0000000000000000"));
        driver.remove(guest.uuid).await.unwrap();
        plumber.unplug(guest.uuid, &[]).await.unwrap();
    });
}

fn names_and_search_domains_are_in_the_files_and_health_is_asked_for() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = configured([
            ("command", "sleep 1000"),
            ("host:db", "192.0.2.7"),
            ("dns_search", "a.example"),
            ("healthcheck", r#"{"test": "grep -q db /etc/hosts", "interval": "1s"}"#),
        ]);
        let mut interfaces = [interface(0, 5)];
        interfaces[0].dns = vec!["192.0.2.53".parse().unwrap()];
        plumber.plug(guest.uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let name = format!("nova-{}", guest.uuid);
        let health = ["inspect", "-f", "{{.State.Health.Status}}", &name];
        until("the check has passed", async || docker.docker(&health).await == "healthy").await;
        interfaces[0].dns = vec!["192.0.2.54".parse().unwrap()];
        driver.update_network_files(guest.uuid, &interfaces).await.unwrap();
        let files = inside(&docker, &guest, "cat /etc/hosts /etc/resolv.conf").await;
        assert!(files.contains("192.0.2.7\tdb\n"), "{files}");
        assert!(files.ends_with("nameserver 192.0.2.54\nsearch a.example"), "{files}");
        driver.remove(guest.uuid).await.unwrap();
        plumber.unplug(guest.uuid, &[]).await.unwrap();
    });
}

fn a_read_only_root_has_the_agents_files_and_names_of_a_domain_are_the_containers() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = configured([
            ("command", r#"sh -c 'trap "exit 7" TERM; echo UP; while :; do sleep 0.1; done'"#),
            ("read_only", "true"),
            ("tmpfs", "/scratch:1m"),
            ("domainname", "shop.example"),
            ("hostname", "till-1"),
            ("dns", "192.0.2.9"),
            ("stop_grace_period", "10m"),
        ]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        for _ in 0..2 {
            driver.start(guest.uuid).await.unwrap();
            let writes = "touch /srv-new; touch /etc/hosts; echo >/bin/new; touch /scratch/here && echo done; id -u";
            assert_eq!(inside(&docker, &guest, &format!("({writes}) 2>/dev/null")).await, "done\n0");
            let names = inside(&docker, &guest, "hostname; cat /proc/sys/kernel/domainname").await;
            assert_eq!(names, "till-1\nshop.example");
            assert!(inside(&docker, &guest, "cat /etc/resolv.conf").await.ends_with("nameserver 192.0.2.9"));
            driver.update_network_files(guest.uuid, &[interface(0, 5)]).await.unwrap();
            let hosts = inside(&docker, &guest, "cat /etc/hosts").await;
            assert!(hosts.contains("10.9.0.5\ttill-1.shop.example till-1"), "{hosts}");
            until_logged(&driver, guest.uuid, "UP").await;
            // Its own time counts, not the one of whoever stops it.
            driver.stop(guest.uuid, StopTimeout::of_container(Duration::from_millis(1))).await.unwrap();
            let ended = driver.state(guest.uuid).await.unwrap();
            assert_eq!(ended, Some(PowerState::Stopped { exit_code: 7 }));
            driver.update_network_files(guest.uuid, &[]).await.unwrap();
        }
    });
}

fn the_kernel_says_which_setting_it_does_not_have() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = configured([("command", "sleep 1000"), ("sysctl:net.no_such_setting", "1")]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        let error = driver.start(guest.uuid).await.unwrap_err().to_string();
        assert!(error.contains("no_such_setting"), "{error}");
    });
}

tests! {
    what_is_asked_of_the_kernel_holds_in_the_instances_own_network_after_each_start,
    names_and_search_domains_are_in_the_files_and_health_is_asked_for,
    a_read_only_root_has_the_agents_files_and_names_of_a_domain_are_the_containers,
    the_kernel_says_which_setting_it_does_not_have,
}
