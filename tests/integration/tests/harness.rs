//! What the tests stand on can fail.

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use integration_tests::programs::program;
use integration_tests::record::{compare, contract};

fn a_part_of_the_contract_that_no_test_has_seen_is_told_and_so_is_a_wrong_exception() {
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let whole = set(&["METHOD", "REASON"]);
    assert_eq!(compare(&whole, &whole, &[]), Vec::<String>::new());
    assert_eq!(compare(&whole, &set(&["REASON"]), &[]), ["no test has seen METHOD"]);
    assert_eq!(compare(&whole, &set(&["REASON"]), &[("METHOD", "why")]), Vec::<String>::new());
    let told = compare(&whole, &whole, &[("METHOD", "why"), ("OLD", "why")]);
    assert!(
        told.len() == 2 && told[0].starts_with("METHOD was seen") && told[1].starts_with("OLD was seen"),
        "{told:?}"
    );
}

fn the_contract_is_read_from_its_descriptors() {
    let contract = contract();
    for part in ["nova_docker.v1.DriverService/CreateGuest", "nova_docker.v1.DriverService/WatchEvents", "NO_SPACE"] {
        assert!(contract.contains(part), "{part} is not in {contract:?}");
    }
    assert!(!contract.contains("UNSPECIFIED"), "{contract:?}");
}

fn a_program_that_is_missing_is_named_with_how_to_build_it() {
    let panic = catch_unwind(|| program("no-such-program")).unwrap_err();
    let words = panic.downcast_ref::<String>().unwrap();
    assert!(words.contains("no-such-program is missing") && words.contains("cargo build"), "{words}");
}

tests! {
    a_part_of_the_contract_that_no_test_has_seen_is_told_and_so_is_a_wrong_exception,
    the_contract_is_read_from_its_descriptors,
    a_program_that_is_missing_is_named_with_how_to_build_it,
}
