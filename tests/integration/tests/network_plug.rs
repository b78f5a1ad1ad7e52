//! Plugging instances into a real Open vSwitch with its datapath in user space.

use std::path::Path;
use std::process::Stdio;

use integration_tests::instance::interface;
use integration_tests::on_host;
use integration_tests::ovs::BRIDGE;
use integration_tests::patience::until;
use integration_tests::process::{attempt, run};
use nova_docker_agent::network::{Error, Interface, PORTS_DIRECTORY, Plumber, Route};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use uuid::Uuid;

/// Output of `ip -j` inside an instance's namespace.
async fn ip(instance: Uuid, arguments: &[&str]) -> Value {
    let namespace = format!("nova-{instance}");
    let arguments: Vec<&str> = ["-j", "-n", &namespace].into_iter().chain(arguments.iter().copied()).collect();
    serde_json::from_str(&run("ip", &arguments).await).expect("JSON")
}

async fn inside(instance: Uuid, command: &[&str]) -> String {
    let namespace = format!("nova-{instance}");
    let arguments: Vec<&str> = ["netns", "exec", &namespace].into_iter().chain(command.iter().copied()).collect();
    run("ip", &arguments).await
}

/// Whether an interface has a carrier and all addresses that it will have.
async fn is_settled(instance: Uuid, name: &str) -> bool {
    let link = ip(instance, &["addr", "show", name]).await[0].clone();
    let has_carrier = !link["flags"].as_array().unwrap().contains(&"NO-CARRIER".into());
    let addresses = link["addr_info"].as_array().unwrap();
    let has_link_local = addresses.iter().any(|address| address["scope"] == "link");
    has_carrier && has_link_local && addresses.iter().all(|address| address.get("tentative").is_none())
}

fn devnames(interfaces: &[Interface]) -> Vec<String> {
    interfaces.iter().map(|interface| interface.devname.clone()).collect()
}

/// `destination via gateway` of each route that is not the kernel's own.
async fn routes(instance: Uuid, family: &str) -> Vec<String> {
    let found = ip(instance, &[family, "route", "show", "proto", "static"]).await;
    let mut routes: Vec<String> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|route| format!("{} {}", route["dst"].as_str().unwrap(), route["gateway"].as_str().unwrap_or("link")))
        .collect();
    routes.sort();
    routes
}

fn an_instance_has_its_interfaces_in_order_with_everything_that_neutron_says() {
    on_host(async |host| {
        let ovs = host.ovs();
        let instance = Uuid::new_v4();
        let mut interfaces = [interface(0, 5), interface(1, 5)];
        interfaces[0].addresses.push("10.9.0.77/24".parse().unwrap());
        interfaces[0].gateways = vec!["10.9.0.1".parse().unwrap(), "fd00:0::1".parse().unwrap()];
        interfaces[0].routes = vec![
            Route { destination: "169.254.169.254/32".parse().unwrap(), via: "10.9.0.2".parse().unwrap() },
            Route { destination: "192.0.2.0/24".parse().unwrap(), via: "0.0.0.0".parse().unwrap() },
        ];
        interfaces[1].gateways = vec!["10.9.1.1".parse().unwrap()];
        ovs.plumber().plug(instance, &interfaces).await.unwrap();

        let links = ip(instance, &["addr"]).await;
        let find = |name: &str| links.as_array().unwrap().iter().find(|link| link["ifname"] == name).unwrap().clone();
        assert!(find("lo")["flags"].as_array().unwrap().contains(&"UP".into()));
        for expected in &interfaces {
            let link = find(&expected.name);
            assert_eq!(link["address"], expected.mac.as_str());
            assert_eq!(link["mtu"], 1450);
            let addresses = link["addr_info"].as_array().unwrap();
            for address in &expected.addresses {
                let found = addresses.iter().find(|found| found["local"] == address.addr().to_string()).unwrap();
                assert_eq!(found["prefixlen"], address.prefix_len());
                assert_eq!(found.get("tentative"), None, "{address} waits for duplicate address detection");
            }
            let offload = inside(instance, &["ethtool", "-k", &expected.name]).await;
            assert!(offload.contains("tx-checksumming: off"), "{offload}");
            let host: Value =
                serde_json::from_str(&run("ip", &["-j", "link", "show", &expected.devname]).await).unwrap();
            assert_eq!(host[0]["mtu"], 1450);
            let offload = run("ethtool", &["-k", &expected.devname]).await;
            assert!(offload.contains("tx-checksumming: off"), "{offload}");
        }
        let expected = ["169.254.169.254 10.9.0.2", "192.0.2.0/24 link", "default 10.9.0.1"];
        assert_eq!(routes(instance, "-4").await, expected, "the first gateway is the default route");
        assert_eq!(routes(instance, "-6").await, ["default fd00::1"]);

        for expected in &interfaces {
            let ids = ovs.vsctl(&["get", "Interface", &expected.devname, "external_ids"]).await;
            for wanted in [
                format!("iface-id=\"{}\"", expected.port_id),
                "iface-status=active".to_owned(),
                format!("attached-mac=\"{}\"", expected.mac),
                format!("vm-uuid=\"{instance}\""),
            ] {
                assert!(ids.contains(&wanted), "{wanted} is missing in {ids}");
            }
            assert_eq!(ovs.vsctl(&["port-to-br", &expected.devname]).await, BRIDGE);
        }
    });
}

fn plugging_twice_changes_nothing() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let interfaces = [interface(0, 5)];
        plumber.plug(instance, &interfaces).await.unwrap();
        let state = async || {
            let ports = ovs.vsctl(&["--columns=_uuid,ofport,external_ids", "list", "Interface"]).await;
            let mut links = ip(instance, &["addr"]).await;
            // Packets come and go meanwhile.
            links
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|link| drop(link.as_object_mut().unwrap().remove("operstate")));
            (ports, links)
        };
        until("the kernel has done what it does by itself", async || is_settled(instance, "eth0").await).await;
        let before = state().await;
        plumber.plug(instance, &interfaces).await.unwrap();
        assert_eq!(state().await, before);
    });
}

fn addresses_that_were_flushed_come_back() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let interfaces = [interface(0, 5)];
        plumber.plug(instance, &interfaces).await.unwrap();
        inside(instance, &["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]).await;
        plumber.plug(instance, &interfaces).await.unwrap();
        let found = ip(instance, &["-6", "addr", "show", "eth0", "scope", "global"]).await;
        assert_eq!(found[0]["addr_info"][0]["local"], "fd00::5");
    });
}

fn a_record_of_a_device_that_has_gone_is_made_anew() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let interfaces = [interface(0, 5)];
        let devname = interfaces[0].devname.as_str();
        plumber.plug(instance, &interfaces).await.unwrap();
        // As after a reboot of the host: Open vSwitch remembers the port, the kernel has nothing.
        run("ip", &["netns", "del", &format!("nova-{instance}")]).await;
        attempt("ip", &["link", "del", devname]).await;
        plumber.plug(instance, &interfaces).await.unwrap();
        let port = ovs.vsctl(&["get", "Interface", devname, "ofport", "error"]).await;
        let (number, error) = port.split_once('\n').unwrap();
        assert!(number.parse::<u32>().is_ok_and(|number| number > 0), "{port}");
        assert_eq!(error, "[]");
    });
}

/// The name that the interface with this MAC address has inside.
async fn name_of(instance: Uuid, mac: &str) -> String {
    let links = ip(instance, &["link"]).await;
    let link = links.as_array().unwrap().iter().find(|link| link["address"] == mac).unwrap().clone();
    link["ifname"].as_str().unwrap().to_owned()
}

fn an_interface_keeps_its_name_when_the_one_before_it_has_gone() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let (first, second) = (interface(0, 5), interface(1, 6));
        plumber.plug(instance, &[first.clone(), second.clone()]).await.unwrap();
        let index = async || ip(instance, &["link", "show", "eth1"]).await[0]["ifindex"].clone();
        let before = index().await;
        plumber.unplug_port(instance, first.port_id).await.unwrap();
        // What the order of the ports says now.
        let told = Interface { name: "eth0".to_owned(), ..second.clone() };
        let plugged = plumber.plug(instance, std::slice::from_ref(&told)).await.unwrap();
        assert_eq!(plugged.first(), Some(&second));
        assert_eq!(index().await, before, "it was made anew");

        // As after a reboot of the host.
        run("ip", &["netns", "del", &format!("nova-{instance}")]).await;
        attempt("ip", &["link", "del", &second.devname]).await;
        plumber.plug(instance, std::slice::from_ref(&told)).await.unwrap();
        assert_eq!(name_of(instance, &second.mac).await, "eth1");
        // The next one has the name that is free.
        let third = Interface { name: "eth1".to_owned(), ..interface(2, 7) };
        plumber.plug(instance, &[told, third.clone()]).await.unwrap();
        assert_eq!(name_of(instance, &third.mac).await, "eth0");
    });
}

fn what_neutron_changes_reaches_an_interface_and_nothing_else_does() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let route = |net: &str, via: &str| Route { destination: net.parse().unwrap(), via: via.parse().unwrap() };
        let mut first = interface(0, 5);
        // A subnet's first address takes the others with it when it goes, unless the kernel is told otherwise.
        first.addresses.insert(0, "10.9.0.4/24".parse().unwrap());
        first.gateways = vec!["10.9.0.1".parse().unwrap()];
        first.routes = vec![route("192.0.2.0/24", "10.9.0.2"), route("198.51.100.0/24", "10.9.0.2")];
        plumber.plug(instance, std::slice::from_ref(&first)).await.unwrap();
        // The instance's own are not ours to remove.
        inside(instance, &["ip", "route", "add", "203.0.113.0/24", "via", "10.9.0.3"]).await;
        let kept = async || ip(instance, &["addr", "show", "to", "10.9.0.5"]).await;
        assert_eq!(kept().await[0]["ifname"], "eth0");

        first.addresses[0] = "10.9.0.77/24".parse().unwrap();
        first.gateways = vec!["10.9.0.254".parse().unwrap()];
        first.routes = vec![route("192.0.2.0/24", "10.9.0.3"), route("192.0.2.128/25", "10.9.0.2")];
        first.mtu = Some(1400);
        plumber.plug(instance, std::slice::from_ref(&first)).await.unwrap();
        let link = ip(instance, &["-4", "addr", "show", "eth0"]).await[0].clone();
        let mut addresses: Vec<&str> =
            link["addr_info"].as_array().unwrap().iter().map(|address| address["local"].as_str().unwrap()).collect();
        addresses.sort_unstable();
        assert_eq!(addresses, ["10.9.0.5", "10.9.0.77"]);
        assert_eq!(link["mtu"], 1400);
        let expected = ["192.0.2.0/24 10.9.0.3", "192.0.2.128/25 10.9.0.2", "default 10.9.0.254"];
        assert_eq!(routes(instance, "-4").await, expected);
        let own = inside(instance, &["ip", "route", "show", "proto", "boot"]).await;
        assert!(own.contains("203.0.113.0/24 via 10.9.0.3"), "{own}");
    });
}

fn the_way_out_stays_when_an_interface_comes_and_moves_when_its_own_goes() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let with_gateways = |number: u8| Interface {
            gateways: vec![format!("10.9.{number}.1").parse().unwrap(), format!("fd00:{number}::1").parse().unwrap()],
            ..interface(number, 5)
        };
        let (first, second) = (with_gateways(0), with_gateways(1));
        plumber.plug(instance, std::slice::from_ref(&second)).await.unwrap();
        plumber.plug(instance, std::slice::from_ref(&first)).await.unwrap();
        plumber.plug(instance, &[first.clone(), second.clone()]).await.unwrap();
        assert_eq!(routes(instance, "-4").await, ["default 10.9.1.1"]);
        assert_eq!(routes(instance, "-6").await, ["default fd00:1::1"]);
        plumber.unplug_port(instance, second.port_id).await.unwrap();
        assert_eq!(routes(instance, "-4").await, ["default 10.9.0.1"]);
        assert_eq!(routes(instance, "-6").await, ["default fd00::1"]);
    });
}

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

fn unplugging_leaves_nothing_and_may_be_repeated() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance, other) = (ovs.plumber(), Uuid::new_v4(), Uuid::new_v4());
        let interfaces = [interface(0, 5), interface(1, 5)];
        plumber.plug(instance, &interfaces).await.unwrap();
        plumber.plug(other, &[interface(0, 9)]).await.unwrap();
        let mut both = vec![instance, other];
        both.sort();
        assert_eq!(plumber.list().await.unwrap(), both);
        // Named is the first one only: the second one is found by its vm-uuid.
        plumber.unplug(instance, &devnames(&interfaces[..1])).await.unwrap();
        assert_eq!(plumber.list().await.unwrap(), [other]);
        assert!(!Plumber::namespace_path(instance).exists());
        let ports = ovs.vsctl(&["list-ports", BRIDGE]).await;
        for name in devnames(&interfaces) {
            assert!(!ports.contains(&name), "{ports}");
            assert!(!attempt("ip", &["link", "show", &name]).await.0, "{name} is still there");
        }
        plumber.unplug(instance, &devnames(&interfaces)).await.unwrap();
        assert_eq!(ip(other, &["link", "show", "eth0"]).await[0]["address"], "fa:16:3e:00:00:09");
    });
}

fn unplugging_goes_on_when_the_switch_does_not_answer_and_says_so() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        let interfaces = [interface(0, 5)];
        plumber.plug(instance, &interfaces).await.unwrap();
        ovs.stop_database();
        let error = plumber.unplug(instance, &devnames(&interfaces)).await.unwrap_err();
        assert!(matches!(&error, Error::Incomplete { failures, .. } if failures.len() == 2), "{error}");
        assert!(error.to_string().contains("Open vSwitch"), "{error}");
        assert!(!Plumber::namespace_path(instance).exists());
        assert!(!attempt("ip", &["link", "show", &interfaces[0].devname]).await.0);
    });
}

fn an_instance_without_interfaces_has_a_namespace_with_a_loopback() {
    on_host(async |host| {
        let ovs = host.ovs();
        let (plumber, instance) = (ovs.plumber(), Uuid::new_v4());
        plumber.plug(instance, &[]).await.unwrap();
        inside(instance, &["busybox", "ping", "-c", "1", "-W", "120", "127.0.0.1"]).await;
        plumber.unplug(instance, &[]).await.unwrap();
        assert!(plumber.list().await.unwrap().is_empty());
    });
}

fn the_callers_thread_stays_in_its_namespace() {
    on_host(async |host| {
        let ovs = host.ovs();
        let namespace = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = namespace();
        ovs.plumber().plug(Uuid::new_v4(), &[interface(0, 5)]).await.unwrap();
        assert_eq!(namespace(), before);
    });
}

tests! {
    an_instance_has_its_interfaces_in_order_with_everything_that_neutron_says,
    plugging_twice_changes_nothing,
    addresses_that_were_flushed_come_back,
    a_record_of_a_device_that_has_gone_is_made_anew,
    an_interface_keeps_its_name_when_the_one_before_it_has_gone,
    what_neutron_changes_reaches_an_interface_and_nothing_else_does,
    the_way_out_stays_when_an_interface_comes_and_moves_when_its_own_goes,
    two_instances_reach_each_other_over_the_switch,
    an_address_that_moves_to_another_instance_is_announced_by_it,
    what_neighbours_were_told_is_not_told_again_until_an_address_comes,
    routers_that_are_not_neutrons_are_heeded_in_the_networks_that_the_operator_names_alone,
    a_new_port_reaches_nobody_before_it_is_wired_where_the_operator_wants_it,
    the_host_has_no_address_in_the_networks_of_instances,
    unplugging_leaves_nothing_and_may_be_repeated,
    unplugging_goes_on_when_the_switch_does_not_answer_and_says_so,
    an_instance_without_interfaces_has_a_namespace_with_a_loopback,
    the_callers_thread_stays_in_its_namespace,
}
