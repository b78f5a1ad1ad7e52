use super::*;

fn accept(values: &[&str]) -> Accept {
    Accept::of(&values.iter().map(|value| (ACCEPT, value.parse().unwrap())).collect())
}

#[test]
fn a_client_takes_what_it_lists_in_any_of_its_headers() {
    let listed = accept(&["application/a, application/b;q=0.5", "text/c", "application/d;q=0"]);
    for (kind, taken) in
        [("application/a", true), ("application/b", true), ("text/c", true), ("application/d", false), ("x", false)]
    {
        assert_eq!(listed.takes(kind), taken, "{kind}");
    }
}

#[test]
fn a_client_that_does_not_say_takes_everything() {
    for values in [&[][..], &["*/*"], &["application/*"], &["text/html, */*;q=0.1"], &[""]] {
        assert!(accept(values).takes("application/a"), "{values:?}");
    }
}
