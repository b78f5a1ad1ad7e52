//! Plugging instances into a real Open vSwitch with its datapath in user space.

use integration_tests::instance::interface;
use integration_tests::on_host;
use integration_tests::ovs::BRIDGE;
use integration_tests::patience::until;
use integration_tests::process::{attempt, run};
use nova_docker_agent::network::{Error, Interface, Plumber, Route};
use serde_json::Value;
use uuid::Uuid;

/// Output of `ip -j` inside an instance's namespace.
pub async fn ip(instance: Uuid, arguments: &[&str]) -> Value {
    let namespace = format!("nova-{instance}");
    let arguments: Vec<&str> = ["-j", "-n", &namespace].into_iter().chain(arguments.iter().copied()).collect();
    serde_json::from_str(&run("ip", &arguments).await).expect("JSON")
}

pub async fn inside(instance: Uuid, command: &[&str]) -> String {
    let namespace = format!("nova-{instance}");
    let arguments: Vec<&str> = ["netns", "exec", &namespace].into_iter().chain(command.iter().copied()).collect();
    run("ip", &arguments).await
}

/// Whether an interface has a carrier and all addresses that it will have.
pub async fn is_settled(instance: Uuid, name: &str) -> bool {
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
    unplugging_leaves_nothing_and_may_be_repeated,
    unplugging_goes_on_when_the_switch_does_not_answer_and_says_so,
    an_instance_without_interfaces_has_a_namespace_with_a_loopback,
    the_callers_thread_stays_in_its_namespace,
}
