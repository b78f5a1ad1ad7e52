//! Interfaces through the second door: into running guests, out of them, and back after they were lost.

use integration_tests::door::{Door, launch, port};
use integration_tests::on_host;
use integration_tests::ovs::BRIDGE;
use nova_docker_proto::v1;

async fn addresses(door: &Door, id: &str) -> String {
    door.docker.docker(&["exec", &format!("nova-{id}"), "ip", "-o", "-4", "addr"]).await
}

async fn ports(door: &Door) -> usize {
    door.ovs.vsctl(&["list-ports", BRIDGE]).await.lines().count()
}

fn attach(id: &str, interface: &v1::Interface) -> v1::AttachInterfaceRequest {
    v1::AttachInterfaceRequest { guest_id: id.to_owned(), interface: Some(interface.clone()) }
}

fn detach(id: &str, interface: &v1::Interface) -> v1::DetachInterfaceRequest {
    v1::DetachInterfaceRequest { guest_id: id.to_owned(), port_id: interface.port_id.clone() }
}

fn an_interface_comes_into_a_running_guest_and_goes_again() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let (first, second) = (port(0, 5), port(1, 5));
        let id = launch(&mut client, door.guest("sleep 1000", std::slice::from_ref(&first))).await;
        for _ in ["once", "again"] {
            let attached = client.attach_interface(attach(&id, &second)).await.unwrap().into_inner();
            assert_eq!(attached.device, "eth1");
        }
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("eth1") && inside.contains("10.9.1.5/24"), "{inside}");
        assert_eq!(ports(&door).await, 2);
        for _ in ["once", "again"] {
            client.detach_interface(detach(&id, &second)).await.unwrap();
        }
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("10.9.0.5/24") && !inside.contains("eth1"), "{inside}");
        assert_eq!(ports(&door).await, 1);
        door.close().await;
    });
}

fn an_interface_is_detached_by_its_port_whatever_the_name_of_its_device() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let named = v1::Interface { device_name: Some("tap-of-test".to_owned()), ..port(0, 5) };
        let attached = client.attach_interface(attach(&id, &named)).await.unwrap().into_inner();
        assert_eq!(attached.device, "eth0");
        assert_eq!(door.ovs.vsctl(&["list-ports", BRIDGE]).await, "tap-of-test");
        client.detach_interface(detach(&id, &named)).await.unwrap();
        assert_eq!(ports(&door).await, 0);
        assert!(!addresses(&door, &id).await.contains("eth0"));
    });
}

fn a_port_of_another_guest_is_left_alone() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let (mine, others) = (port(0, 5), port(0, 6));
        let id = launch(&mut client, door.guest("sleep 1000", &[mine])).await;
        let other = launch(&mut client, door.guest("sleep 1000", std::slice::from_ref(&others))).await;
        client.detach_interface(detach(&id, &others)).await.unwrap();
        assert!(addresses(&door, &other).await.contains("10.9.0.6/24"));
        assert_eq!(ports(&door).await, 2);
    });
}

fn a_guest_starts_with_the_interfaces_that_it_is_started_with() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let interfaces = vec![port(0, 5), port(1, 5)];
        let id = launch(&mut client, door.guest("sleep 1000", &interfaces[..1])).await;
        let guest_id = || id.clone();
        // As after a reboot of the host: the container is there, its network is not.
        client.stop_guest(v1::StopGuestRequest { guest_id: guest_id(), timeout: None }).await.unwrap();
        client.unplug_guest(v1::UnplugGuestRequest { guest_id: guest_id() }).await.unwrap();
        client.unplug_guest(v1::UnplugGuestRequest { guest_id: guest_id() }).await.unwrap();
        assert_eq!(ports(&door).await, 0);
        let start = v1::StartGuestRequest { guest_id: guest_id(), interfaces: interfaces.clone() };
        client.start_guest(start).await.unwrap();
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("10.9.0.5/24") && inside.contains("10.9.1.5/24"), "{inside}");
        let again = v1::PlugGuestRequest { guest_id: guest_id(), interfaces };
        client.plug_guest(again).await.unwrap();
        assert_eq!(addresses(&door, &id).await, inside);
        client.delete_guest(v1::DeleteGuestRequest { guest_id: guest_id() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

fn the_first_interface_of_a_guest_that_had_none_stays_through_a_reboot() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let interface = port(0, 5);
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        client.attach_interface(attach(&id, &interface)).await.unwrap();
        let reboot = v1::RebootGuestRequest { guest_id: id.clone(), interfaces: vec![interface], timeout: None };
        client.reboot_guest(reboot).await.unwrap();
        assert!(addresses(&door, &id).await.contains("10.9.0.5/24"));
    });
}

tests! {
    an_interface_comes_into_a_running_guest_and_goes_again,
    an_interface_is_detached_by_its_port_whatever_the_name_of_its_device,
    a_port_of_another_guest_is_left_alone,
    a_guest_starts_with_the_interfaces_that_it_is_started_with,
    the_first_interface_of_a_guest_that_had_none_stays_through_a_reboot,
}
