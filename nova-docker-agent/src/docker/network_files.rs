//! The files of an instance that say what its network is, brought to what it is now: `/etc/resolv.conf`, and the instance's own
//! line in `/etc/hosts`.
//!
//! What the instance's user has written stays. The agent's resolv.conf says so itself, with a digest: one without it, or with
//! another content, is not the agent's any more. Of `/etc/hosts` only the line is changed that has the agent's form.

use std::net::IpAddr;

use uuid::Uuid;

use super::files::{self, hosts_file, own_names, resolv_conf_file};
use super::{Docker, Error};
use crate::network::Interface;

impl Docker {
    /// Brings the files to what the interfaces say. Those that are absent, no plain files, or the user's own stay.
    pub async fn update_network_files(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        let own = own_names(&found.hostname, found.domainname.as_deref());
        let mut changed = Vec::new();
        if let Some(present) = self.read_text(&found.id, "/etc/resolv.conf").await? {
            changed.extend(followed_resolv_conf(&present, interfaces).map(resolv_conf_file));
        }
        if let Some(present) = self.read_text(&found.id, "/etc/hosts").await? {
            changed.extend(followed_hosts(&present, &own, interfaces).map(hosts_file));
        }
        if changed.is_empty() {
            return Ok(());
        }
        tracing::info!(instance = %uuid, "the network changed; writing it into the instance's files");
        self.upload(&found.id, &changed).await
    }
}

/// The resolv.conf that takes the place of `present`, if that is the agent's and says something else. What the user asked for
/// besides the name servers stays.
fn followed_resolv_conf(present: &str, interfaces: &[Interface]) -> Option<String> {
    let servers = files::name_servers(&files::asked_servers(present), interfaces);
    let asked = files::asked_lines(present);
    let wanted = files::sealed(&(servers + &files::searched(&asked, interfaces) + &asked));
    (files::is_sealed(present) && wanted != present).then_some(wanted)
}

/// `/etc/hosts` with the instance's address of now in the line that the agent wrote.
fn followed_hosts(present: &str, names: &str, interfaces: &[Interface]) -> Option<String> {
    let is_own = |line: &str| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.split_once('\t').is_some_and(|(address, rest)| rest == names && address.parse::<IpAddr>().is_ok())
    };
    let own = format!("{}\t{names}\n", files::own_address(interfaces));
    let wanted: String = present.split_inclusive('\n').map(|line| if is_own(line) { &own } else { line }).collect();
    (wanted != present).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::an_interface;

    fn interface(address: &str, dns: &[&str]) -> Interface {
        Interface {
            addresses: vec![address.parse().unwrap()],
            dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
            ..an_interface()
        }
    }

    #[test]
    fn new_name_servers_take_the_place_of_the_old_ones() {
        let written = files::sealed(&files::name_servers(&[], &[interface("10.0.0.5/24", &["192.0.2.1"])]));
        assert_eq!(followed_resolv_conf(&written, &[interface("10.0.0.5/24", &["192.0.2.1"])]), None);
        let now = followed_resolv_conf(&written, &[interface("10.0.0.5/24", &["192.0.2.2"])]).unwrap();
        assert!(now.contains("nameserver 192.0.2.2\n") && !now.contains("192.0.2.1"), "{now}");
        let none = followed_resolv_conf(&now, &[interface("10.0.0.5/24", &[])]).unwrap();
        assert!(!none.contains("nameserver"), "{none}");
    }

    #[test]
    fn search_domains_and_options_stay_when_the_name_servers_change() {
        let written = files::sealed("nameserver 192.0.2.1\nsearch a.example\noptions ndots:2\n");
        assert_eq!(followed_resolv_conf(&written, &[interface("10.0.0.5/24", &["192.0.2.1"])]), None);
        let now = followed_resolv_conf(&written, &[interface("10.0.0.5/24", &["192.0.2.2"])]).unwrap();
        assert!(now.ends_with("nameserver 192.0.2.2\nsearch a.example\noptions ndots:2\n"), "{now}");
    }

    #[test]
    fn a_domain_of_neutrons_comes_changes_and_goes_and_the_users_options_stay() {
        let within = |search: &[&str]| Interface {
            search: search.iter().map(|&domain| domain.to_owned()).collect(),
            ..interface("10.0.0.5/24", &["192.0.2.1"])
        };
        let written = files::sealed("nameserver 192.0.2.1\noptions ndots:2\n");
        let now = followed_resolv_conf(&written, &[within(&["a.example"])]).unwrap();
        assert!(now.contains("\nsearch a.example\noptions ndots:2\n"), "{now}");
        assert_eq!(followed_resolv_conf(&now, &[within(&["a.example"])]), None);
        let changed = followed_resolv_conf(&now, &[within(&["b.example"])]).unwrap();
        assert!(changed.contains("\nsearch b.example\n") && !changed.contains("a.example"), "{changed}");
        assert_eq!(followed_resolv_conf(&changed, &[within(&[])]), Some(written));
    }

    #[test]
    fn the_users_own_name_servers_stay_before_those_that_change() {
        let asked = ["198.51.100.1".parse().unwrap()];
        let of = |servers| files::sealed(&files::name_servers(&asked, &[interface("10.0.0.5/24", servers)]));
        let written = of(&["192.0.2.1"]);
        let now = followed_resolv_conf(&written, &[interface("10.0.0.5/24", &["192.0.2.2", "198.51.100.1"])]).unwrap();
        assert!(now.ends_with("\nnameserver 198.51.100.1\nnameserver 192.0.2.2\n"), "{now}");
        assert_eq!(followed_resolv_conf(&now, &[interface("10.0.0.5/24", &["192.0.2.2"])]), None);
        assert_eq!(followed_resolv_conf(&now, &[interface("10.0.0.5/24", &[])]), Some(of(&[])));
    }

    #[test]
    fn a_resolv_conf_that_somebody_else_wrote_stays() {
        let written = files::sealed("nameserver 192.0.2.1\n");
        let now = [interface("10.0.0.5/24", &["192.0.2.2"])];
        for edited in [
            "nameserver 192.0.2.1\n".to_owned(),
            String::new(),
            format!("{written}search example.org\n"),
            written.replace("192.0.2.1", "192.0.2.9"),
        ] {
            assert_eq!(followed_resolv_conf(&edited, &now), None, "{edited:?}");
        }
    }

    #[test]
    fn the_instances_own_line_has_its_address_of_now_and_other_lines_stay() {
        let present =
            "127.0.0.1\tlocalhost\n10.0.0.5\tweb.example.org web\n10.0.0.5\tother\n10.0.0.5 web.example.org web\n";
        let now = followed_hosts(present, "web.example.org web", &[interface("10.0.0.77/24", &[])]).unwrap();
        assert_eq!(now, present.replace("10.0.0.5\tweb", "10.0.0.77\tweb"));
        assert_eq!(followed_hosts(&now, "web.example.org web", &[interface("10.0.0.77/24", &[])]), None);
        assert_eq!(followed_hosts("127.0.0.1\tlocalhost\n", "web", &[interface("10.0.0.77/24", &[])]), None);
    }
}
