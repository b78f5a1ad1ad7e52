use super::*;

fn seats() -> Seats {
    let shared_addresses = vec!["10.0.0.0/24".parse().unwrap()];
    Seats::new(&Limits { connections: 4, connections_of_address: Some(2), shared_addresses, ..Limits::default() })
}

fn take(seats: &Seats, address: &str) -> Option<Turn> {
    seats.take(address.parse().unwrap())
}

#[test]
fn one_address_has_its_part_of_the_connections_and_a_shared_one_as_many_as_there_are() {
    let seats = seats();
    let mut taken: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1"].map(|address| take(&seats, address).unwrap()).into();
    assert!(take(&seats, "192.0.2.1").is_none());
    taken.extend(["10.0.0.7", "10.0.0.7"].map(|address| take(&seats, address).unwrap()));
    assert!(take(&seats, "10.0.0.7").is_none() && take(&seats, "192.0.2.2").is_none());
    taken.clear();
    taken.extend([(); 4].map(|()| take(&seats, "10.0.0.7").unwrap()));
    taken.clear();
    assert!(take(&seats, "192.0.2.1").is_some());
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    let seats = seats();
    let _taken = ["2001:db8::1", "2001:db8::2"].map(|address| take(&seats, address).unwrap());
    assert!(take(&seats, "2001:db8::3").is_none());
    assert!(take(&seats, "2001:db8:0:1::1").is_some());
}
