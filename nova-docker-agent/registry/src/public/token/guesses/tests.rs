use super::*;

const ADDRESS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "198.51.100.7"];

fn begin(guesses: &Guesses, address: &str, user: u8) -> Option<Guess> {
    guesses.begin(Some(address.parse().unwrap()), [user; 32])
}

fn wrong(guesses: &Guesses, address: &str, user: u8, times: u32) -> u32 {
    (0..times).filter_map(|_| begin(guesses, address, user)).map(Guess::was_wrong).count().try_into().unwrap()
}

#[test]
fn an_address_guesses_at_one_user_and_at_all_so_often_and_others_are_not_hurt() {
    let guesses = Guesses::new(vec![]);
    assert_eq!(wrong(&guesses, ADDRESS[0], 1, 100), OF_USER);
    assert_eq!(wrong(&guesses, ADDRESS[1], 1, 1), 1);
    let users: u32 = (2..100).map(|user| wrong(&guesses, ADDRESS[0], user, 5)).sum();
    assert_eq!(OF_USER + users, OF_ADDRESS);
    assert!(begin(&guesses, ADDRESS[1], 2).is_some());
}

#[test]
fn right_passwords_do_not_count_but_those_that_are_asked_about_do() {
    let guesses = Guesses::new(vec![]);
    for _ in 0..100 {
        assert!(begin(&guesses, ADDRESS[0], 1).is_some());
    }
    let asked: Vec<Guess> = (0..100).filter_map(|_| begin(&guesses, ADDRESS[0], 1)).collect();
    assert_eq!(asked.len(), OF_USER as usize);
    drop(asked);
    assert!(begin(&guesses, ADDRESS[0], 1).is_some());
}

#[test]
fn a_shared_address_is_bounded_for_each_user_only_and_an_ipv6_client_as_its_network() {
    let guesses = Guesses::new(vec!["198.51.100.0/24".parse().unwrap()]);
    let users: u32 = (0..100).map(|user| wrong(&guesses, ADDRESS[2], user, 20)).sum();
    assert_eq!(users, 100 * OF_USER);
    assert_eq!(wrong(&guesses, "2001:db8::1", 1, 6) + wrong(&guesses, "2001:db8::2", 1, 6), OF_USER);
    assert!(guesses.begin(None, [1; 32]).is_some());
}
