//! What instances on a real Open vSwitch learn of each other, of routers and of the host.

use std::path::Path;
use std::process::Stdio;

use integration_tests::instance::interface;
use integration_tests::on_host;
use integration_tests::patience::until;
use integration_tests::process::{attempt, run};
use nova_docker_agent::network::{Interface, PORTS_DIRECTORY};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use uuid::Uuid;

use crate::network_plug::{inside, ip, is_settled};

fn two_instances_reach_each_other_over_the_switch() {
    on_host(async |host| {
        let ovs = host.ovs();
        let plumber = ovs.plumber();
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        plumber.plug(one, &[interface(0, 1)]).await.unwrap();
        plumber.plug(two, &[interface(0, 2)]).await.unwrap();
        for (family, address) in [("-4", "10.9.0.2"), ("-6", "fd00:0::2")] {
            let ping = format!("ip netns exec nova-{one} busybox ping {family} -c 1 -W 5 {address}");
            until("the other one answers", async || attempt("sh", &["-c", &ping]).await.0).await;
        }
        // TCP does not survive wrong checksums; ping does.
        let server = async { inside(two, &["timeout", "120", "busybox", "nc", "-l", "-p", "7"]).await };
        let client = async {
            let listening = async || inside(two, &["ss", "-Hltn", "sport = :7"]).await;
            until("the other one listens", async || !listening().await.is_empty()).await;
            // What was heard tells how it went.
            let talk = format!("echo hello | ip netns exec nova-{one} busybox nc -w 60 10.9.0.2 7");
            attempt("sh", &["-c", &talk]).await
        };
        let (heard, _) = tokio::join!(server, client);
        assert_eq!(heard, "hello\n");
    });
}

fn an_address_that_moves_to_another_instance_is_announced_by_it() {
    on_host(async |host| {
        let ovs = host.ovs();
        let plumber = ovs.plumber();
        let (peer, before, after) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        plumber.plug(peer, &[interface(0, 1)]).await.unwrap();
        plumber.plug(before, &[interface(0, 2)]).await.unwrap();
        let addresses = ["10.9.0.2", "fd00:0::2"];
        for (family, address) in ["-4", "-6"].into_iter().zip(addresses) {
            let ping = format!("ip netns exec nova-{peer} busybox ping {family} -c 1 -W 5 {address}");
            until("the first one answers", async || attempt("sh", &["-c", &ping]).await.0).await;
        }
        // The peer shall learn only from what it is told.
        let known = async || {
            let found = ip(peer, &["neigh", "show", "dev", "eth0"]).await;
            let of = |address: &str| {
                let address = address.parse::<std::net::IpAddr>().unwrap().to_string();
                let entries = found.as_array().unwrap();
                entries.iter().find(|entry| entry["dst"] == address).map(|entry| entry["lladdr"].clone())
            };
            addresses.map(of)
        };
        let all_at = |mac: &str| addresses.map(|_| Some(Value::from(mac)));
        assert_eq!(known().await, all_at("fa:16:3e:00:00:02"));
        plumber.unplug(before, &[]).await.unwrap();
        let moved = Interface { addresses: interface(0, 2).addresses, ..interface(0, 3) };
        plumber.plug(after, &[moved]).await.unwrap();
        until("the peer knows where the addresses are now", async || {
            plumber.announce(after, true).await.unwrap();
            known().await == all_at("fa:16:3e:00:00:03")
        })
        .await;
    });
}

/// Runs a script of Python in an instance's namespace. It says when it listens, by its first line.
async fn listener(instance: Uuid, script: &str) -> Lines<BufReader<ChildStdout>> {
    let namespace = format!("nova-{instance}");
    let mut command = tokio::process::Command::new("ip");
    command.args(["netns", "exec", &namespace, "timeout", "300", "python3", "-Buc", script]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("ip netns exec python3");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    tokio::spawn(async move { child.wait().await });
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("listening"));
    lines
}

/// Prints the senders of all ARP until 10.9.0.77 is one.
const ARP_SENDERS: &str = r#"
import socket
arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
arp.bind(("eth0", 0x0806))
print("listening")
sender = ""
while sender != "10.9.0.77":
    sender = socket.inet_ntoa(arp.recv(2048)[28:32])
    print(sender)
"#;

fn what_neighbours_were_told_is_not_told_again_until_an_address_comes() {
    on_host(async |host| {
        let ovs = host.ovs();
        let plumber = ovs.plumber();
        let (peer, instance) = (Uuid::new_v4(), Uuid::new_v4());
        plumber.plug(peer, &[interface(0, 1)]).await.unwrap();
        let mut own = interface(0, 2);
        plumber.plug(instance, std::slice::from_ref(&own)).await.unwrap();
        for (instance, name) in [(peer, "eth0"), (instance, "eth0")] {
            until("the interfaces are up", async || is_settled(instance, name).await).await;
        }
        plumber.announce(instance, false).await.unwrap();
        let mut senders = listener(peer, ARP_SENDERS).await;
        // Starts at which nothing has moved, of this agent and of the next one.
        for plumber in [&plumber, &ovs.plumber()] {
            plumber.plug(instance, std::slice::from_ref(&own)).await.unwrap();
            plumber.announce(instance, false).await.unwrap();
        }
        // An address that comes while no process runs is told at the next start, whatever Neutron's agent says meanwhile.
        let runs = Path::new(PORTS_DIRECTORY).join(format!("nova-{instance}.up"));
        std::fs::write(&runs, "").unwrap();
        own.addresses[0] = "10.9.0.77/24".parse().unwrap();
        plumber.plug(instance, std::slice::from_ref(&own)).await.unwrap();
        plumber.announce(instance, true).await.unwrap();
        std::fs::write(&runs, "a container").unwrap();
        plumber.plug(instance, std::slice::from_ref(&own)).await.unwrap();
        until("the interfaces are up again", async || is_settled(instance, "eth0").await).await;
        plumber.announce(instance, false).await.unwrap();
        let mut heard = Vec::new();
        while let Some(sender) = senders.next_line().await.unwrap() {
            heard.push(sender);
        }
        assert!(heard.contains(&"10.9.0.77".to_owned()) && !heard.contains(&"10.9.0.2".to_owned()), "{heard:?}");
    });
}

/// Advertises a router of the sender's own.
const ADVERTISE: &str = r#"
import socket, struct
router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
router.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"#;

fn routers_that_are_not_neutrons_are_heeded_in_the_networks_that_the_operator_names_alone() {
    on_host(async |host| {
        let ovs = host.ovs();
        let network = Uuid::new_v4();
        let plumber = ovs.plumber_that_heeds_routers_of(network);
        let (router, instance) = (Uuid::new_v4(), Uuid::new_v4());
        plumber.plug(router, &[interface(0, 1)]).await.unwrap();
        let named = Interface { network_id: Some(network), ..interface(0, 2) };
        let other = Interface { network_id: Some(Uuid::new_v4()), ..interface(1, 2) };
        plumber.plug(instance, &[named.clone(), other]).await.unwrap();
        for (instance, name) in [(router, "eth0"), (instance, "eth0"), (instance, "eth1")] {
            until("the interfaces are up", async || is_settled(instance, name).await).await;
        }
        until("eth0, which is on the same bridge as eth1, has a way out through the router", async || {
            inside(router, &["python3", "-Bc", ADVERTISE]).await;
            let found = ip(instance, &["-6", "route", "show", "default"]).await;
            let devices: Vec<_> = found.as_array().unwrap().iter().map(|route| route["dev"].clone()).collect();
            assert!(devices.iter().all(|device| device == "eth0"), "{devices:?}");
            !devices.is_empty()
        })
        .await;
        let own = inside(instance, &["ip", "-6", "-o", "addr", "show", "eth0", "scope", "global"]).await;
        assert_eq!(own.lines().count(), 1, "no address but Neutron's: {own}");
        // What is plugged again stays, and an operator may think again.
        plumber.plug(instance, std::slice::from_ref(&named)).await.unwrap();
        let found = ip(instance, &["-6", "route", "show", "default"]).await;
        assert_eq!(found.as_array().unwrap().len(), 1);
        ovs.plumber().plug(instance, &[named]).await.unwrap();
        assert_eq!(inside(instance, &["cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"]).await.trim(), "0");
    });
}

fn a_new_port_reaches_nobody_before_it_is_wired_where_the_operator_wants_it() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.isolating_plumber(), Uuid::new_v4());
        let interfaces = [interface(0, 5)];
        plumber.plug(instance, &interfaces).await.unwrap();
        let tag = async || ovs.vsctl(&["get", "Port", &interfaces[0].devname, "tag"]).await;
        assert_eq!(tag().await, "4095");
        // As Neutron's agent does.
        ovs.vsctl(&["set", "Port", &interfaces[0].devname, "tag=7"]).await;
        plumber.plug(instance, &interfaces).await.unwrap();
        assert_eq!(tag().await, "7", "what is wired was taken apart");
    });
}

fn the_host_has_no_address_in_the_networks_of_instances() {
    on_host(async |host| {
        let ovs = host.ovs();
        let interfaces = [interface(0, 5)];
        ovs.plumber().plug(Uuid::new_v4(), &interfaces).await.unwrap();
        let shown = run("ip", &["-6", "-o", "address", "show", "dev", &interfaces[0].devname]).await;
        assert_eq!(shown, "");
    });
}

tests! {
    two_instances_reach_each_other_over_the_switch,
    an_address_that_moves_to_another_instance_is_announced_by_it,
    what_neighbours_were_told_is_not_told_again_until_an_address_comes,
    routers_that_are_not_neutrons_are_heeded_in_the_networks_that_the_operator_names_alone,
    a_new_port_reaches_nobody_before_it_is_wired_where_the_operator_wants_it,
    the_host_has_no_address_in_the_networks_of_instances,
}
