//! Links to other servers.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::super::link::Wait;
use super::super::*;
use super::{of_flavor, of_image, of_user, refused};

const ID: &str = "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8";

fn of_service(service: &str) -> Result<Configuration, Mistakes> {
    let user_data = STANDARD.encode(format!("#container-config\n{service}"));
    Configuration::parse(&Sources { user_data, memory_mb: 64, ..Sources::default() })
}

fn links(made: &Configuration) -> Vec<(String, String)> {
    made.links.iter().map(|(alias, target)| (alias.clone(), target.to_string())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(alias, target)| ((*alias).to_owned(), (*target).to_owned())).collect()
}

#[test]
fn a_server_is_named_by_its_name_its_id_or_its_tag() {
    let made = of_user([("docker:link:a", "my db"), ("docker:link:b", ID), ("docker:link:c", "@web")]).unwrap();
    let expected = [Target::Name("my db".to_owned()), Target::Id(ID.parse().unwrap()), Target::Tag("web".to_owned())];
    assert_eq!(made.links.into_values().collect::<Vec<_>>(), expected);
}

#[test]
fn links_are_written_as_in_compose() {
    let made =
        of_service("links: [db, \"my db:store\", \"@web\", \"@all:every\"]\nexternal_links: [\"a:b:c\"]").unwrap();
    let expected = [("c", "a:b"), ("db", "db"), ("every", "@all"), ("store", "my db"), ("web", "@web")];
    assert_eq!(links(&made), pairs(&expected));
    for (wrong, problem) in [
        ("links: {a: b}", "user_data links: it is no list"),
        ("links: db", "user_data links: it is no list"),
        ("links: [[db]]", "user_data links.0: it is no text"),
        ("links: [db]\nexternal_links: [\"x:db\"]", "user_data external_links.db: it is there twice"),
        ("links: [\"my db\"]", "user_data links.my db: the name is no host name"),
        ("links: [\"db:\"]", "user_data links.: the name is empty"),
    ] {
        let error = of_service(wrong).unwrap_err().to_string();
        assert!(error.contains(problem), "{wrong}: {error}");
    }
}

#[test]
fn user_data_wins_over_metadata_for_the_same_name() {
    let sources = Sources {
        metadata: [("docker:link:db".to_owned(), "old".to_owned())].into(),
        user_data: STANDARD.encode("#container-config\nlinks: [\"new:db\"]"),
        ..Sources::default()
    };
    assert_eq!(links(&Configuration::parse(&sources).unwrap()), pairs(&[("db", "new")]));
}

#[test]
fn a_name_that_hosts_does_not_take_and_a_target_that_no_server_has_are_refused() {
    for alias in ["a b", "a\nb", "bücher", "", "-a", "localhost", "LocalHost", "ip6-localhost", &"a".repeat(254)] {
        assert!(of_user([(&format!("docker:link:{alias}"), "db")]).is_err(), "{alias:?}");
    }
    for target in ["", " ", "@", "a\nb", "a\u{7f}", "@a/b", "@a,b", &"a".repeat(256), &format!("@{}", "a".repeat(61))] {
        refused("docker:link:db", target);
    }
}

#[test]
fn a_server_has_at_most_64_links() {
    let of = |count: usize| {
        let metadata = (0..count).map(|number| (format!("docker:link:a{number}"), "db".to_owned())).collect();
        Configuration::parse(&Sources { metadata, ..Sources::default() })
    };
    assert_eq!(of(64).unwrap().links.len(), 64);
    assert!(of(65).unwrap_err().to_string().contains("there are more than 64 links"));
}

#[test]
fn only_the_user_says_what_a_server_is_linked_to() {
    let only = "only server metadata and user data can set it";
    for error in [of_image([("docker_link:db", "db")]).unwrap_err(), of_flavor([("docker:link:db", "db")]).unwrap_err()]
    {
        assert!(error.to_string().contains(only), "{error}");
    }
    assert!(of_image([("docker_link_wait", "1")]).unwrap_err().to_string().contains(only));
}

#[test]
fn a_launch_waits_for_a_bounded_time_or_goes_on() {
    let patience = |text: &str| of_user([("docker:link_wait", text)]).unwrap().link_patience();
    assert_eq!(Configuration::default().link_patience(), Some(Duration::ZERO));
    assert_eq!(patience("10m"), Some(Duration::from_secs(600)));
    assert_eq!(patience("optional"), None);
    assert_eq!(of_service("link_wait: 90").unwrap().link_wait, Some(Wait::For(Duration::from_secs(90))));
    for wrong in ["", "-1", "601", "11m", "forever", "true", "Optional"] {
        refused("docker:link_wait", wrong);
    }
}

#[test]
fn a_name_in_novas_filter_is_no_pattern() {
    let pattern = |name: &str| Target::parse(name).unwrap().filter();
    assert_eq!(pattern("my-db_1"), ("display_name", "^my-db_1$".to_owned()));
    assert_eq!(pattern("a.b (2)|.*"), ("display_name", "^a.*b.*2.*$".to_owned()));
    assert_eq!(pattern("bücher"), ("display_name", "^b.*cher$".to_owned()));
    assert_eq!(pattern("@a.b"), ("tags", "a.b".to_owned()));
}
