//! Files that an instance finds in its root file system when it first starts, as cloud-init leaves them in a machine:
//! `/etc/hosts`, `/etc/resolv.conf`, root's `authorized_keys`; and those that its user wants to find there.
//!
//! They are written before the first start, and belong to the instance from then on: `network_files` brings the first two to what
//! Neutron says, as long as the user leaves them alone. Docker's own mounts for the first
//! two are not to be had without Docker's own network set-up, which disables IPv6 in the namespace and so flushes the
//! addresses that the agent has put there.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::create::Files;
use super::{Docker, Error, peers};
use crate::guest::{Configuration, Guest, InjectedFile, Peers, PublicKey};
use crate::network::Interface;

/// Name servers that resolvers look at.
const MAX_DNS: usize = 3;
/// Keys of lines in resolv.conf.
const SEARCH: &str = "search";
const OPTIONS: &str = "options";
/// Neutron's domains that are searched, and bytes of their line: what resolvers look at.
const MAX_SEARCH: usize = 6;
const MAX_SEARCH_LINE: usize = 255;
/// The line before one that Neutron's domains are in.
const OF_NETWORK: &str = "# the network's:";
/// Begins the line that tells the name servers which the user asked for from Neutron's.
const ASKED: &str = "# asked for:";
/// Bytes of a digest that tells an edited file from ours.
const SEAL_BYTES: usize = 8;

/// A file to be.
#[derive(Debug, PartialEq)]
pub(super) struct File {
    /// Directories above it, from the top, with the modes of those that have to be made.
    pub(super) directories: Vec<(Cow<'static, str>, u32)>,
    /// Without the slash at its beginning. Empty: only the directories.
    pub(super) path: Cow<'static, str>,
    pub(super) owner: Owner,
    pub(super) mode: u32,
    pub(super) content: Vec<u8>,
}

/// Whose a file is; root's if nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: u64,
    pub(super) group: u64,
}

impl File {
    /// A file of root's in the directories above it.
    fn new(directories: &[(&'static str, u32)], path: &'static str, mode: u32, content: String) -> Self {
        let directories = directories.iter().map(|(path, mode)| (Cow::Borrowed(*path), *mode)).collect();
        Self { directories, path: path.into(), owner: Owner::default(), mode, content: content.into_bytes() }
    }

    /// A file of `/etc` that takes the place of one with this owner and mode.
    pub(super) fn replacement(path: &'static str, owner: Owner, mode: u32, content: String) -> Self {
        Self { owner, ..Self::new(&[("/etc", 0o755)], path, mode, content) }
    }

    /// A file that the user wants: like one that root has written with an editor.
    pub(super) fn injected(file: &InjectedFile) -> Self {
        let path = file.path().trim_start_matches('/');
        Self {
            directories: above(path),
            path: path.to_owned().into(),
            owner: Owner::default(),
            mode: 0o644,
            content: file.content.clone(),
        }
    }
}

impl Docker {
    /// Puts the instance's files into a container that has not started. One that holds the instance's own needs no more than
    /// `/etc/hosts` and `/etc/resolv.conf`: Docker empties them in each new container.
    pub(super) async fn put_files(
        &self,
        id: &str,
        guest: &Guest,
        hostname: &str,
        interfaces: &[Interface],
        image_files: Files,
    ) -> Result<(), Error> {
        let asked = &guest.configuration;
        let mut files = vec![hosts(hostname, interfaces, asked, &guest.links)];
        files.extend(resolv_conf(interfaces, asked));
        if matches!(image_files, Files::OfTheInstance { .. }) {
            return self.upload(id, &files).await;
        }
        files.extend(guest.key.as_ref().filter(|_| self.inner.config.inject_key).map(authorized_keys));
        self.upload(id, &files).await?;
        // After the agent's own, so that the user has the last word on each of them.
        let injected: Vec<File> = guest.inside.files.iter().map(File::injected).collect();
        if !injected.is_empty() {
            self.upload(id, &injected).await?;
        }
        self.put_password(id, guest).await
    }
}

/// The directories above a path that has no slash at its beginning, open to all for reading.
fn above(path: &str) -> Vec<(Cow<'static, str>, u32)> {
    path.match_indices('/').map(|(end, _)| (format!("/{}", &path[..end]).into(), 0o755)).collect()
}

/// A directory of root's, open to all for reading.
pub(super) fn directory(path: &str) -> File {
    File {
        directories: above(&format!("{}/", path.trim_start_matches('/'))),
        path: "".into(),
        owner: Owner::default(),
        mode: 0,
        content: Vec::new(),
    }
}

/// The usual names, the instance's own for its first fixed IP, and those that are asked for, of linked servers among them.
fn hosts(hostname: &str, interfaces: &[Interface], asked: &Configuration, peers: &Peers) -> File {
    let mut content = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    // Writing to a string cannot fail.
    writeln!(content, "{}\t{}", own_address(interfaces), own_names(hostname, asked.domainname.as_deref())).ok();
    for (name, address) in asked.hosts.iter().flat_map(|(name, all)| all.iter().map(move |address| (name, address))) {
        writeln!(content, "{address}\t{name}").ok();
    }
    content.push_str(&peers::block(&asked.links, peers, interfaces));
    hosts_file(content)
}

/// The address of the instance's own name: its first fixed IPv4 address, or else its first one. Neutron gives no order.
pub(super) fn own_address(interfaces: &[Interface]) -> String {
    let all = || interfaces.iter().flat_map(|interface| &interface.addresses);
    let first = all().find(|address| address.addr().is_ipv4()).or_else(|| all().next());
    first.map_or("127.0.1.1".to_owned(), |address| address.addr().to_string())
}

/// The instance's own names as `/etc/hosts` has them: the first one is the whole one.
pub(super) fn own_names(hostname: &str, domainname: Option<&str>) -> String {
    let short = hostname.split_once('.').map_or(hostname, |(short, _)| short);
    let whole = domainname.map_or(hostname.to_owned(), |domain| format!("{short}.{domain}"));
    let mut names = vec![whole.as_str()];
    for name in [hostname, short] {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" ")
}

pub(super) fn hosts_file(content: String) -> File {
    File::new(&[("/etc", 0o755)], "etc/hosts", 0o644, content)
}

/// The name servers, and what is asked for besides; none where there is no name server: the image's own file stays.
fn resolv_conf(interfaces: &[Interface], asked: &Configuration) -> Option<File> {
    let servers = name_servers(&asked.dns, interfaces);
    let line = |key: &str, words: &[String]| {
        if words.is_empty() { String::new() } else { format!("{key} {}\n", words.join(" ")) }
    };
    let rest = line(SEARCH, &asked.dns_search) + &line(OPTIONS, &asked.dns_opt);
    let rest = searched(&rest, interfaces) + &rest;
    (!servers.is_empty()).then(|| resolv_conf_file(sealed(&(servers + &rest))))
}

/// Lines of a resolv.conf that are not Neutron's.
pub(super) fn asked_lines(resolv_conf: &str) -> String {
    let mut after_mark = false;
    let is_asked = |line: &&str| {
        let is_ours = std::mem::replace(&mut after_mark, line.trim_end() == OF_NETWORK);
        !is_ours && matches!(line.split_once(' '), Some((SEARCH | OPTIONS, _)))
    };
    resolv_conf.split_inclusive('\n').filter(is_asked).collect()
}

/// The line with the domains that the interfaces' ports are in, below its mark; none where the `asked` lines have domains.
pub(super) fn searched(asked: &str, interfaces: &[Interface]) -> String {
    if asked.lines().any(|line| line.split(' ').next() == Some(SEARCH)) {
        return String::new();
    }
    let mut line = SEARCH.to_owned();
    let mut domains: Vec<&String> = Vec::new();
    for domain in interfaces.iter().flat_map(|interface| &interface.search) {
        let fits = domains.len() < MAX_SEARCH && line.len() + 1 + domain.len() <= MAX_SEARCH_LINE;
        if fits && !domains.contains(&domain) {
            domains.push(domain);
            line = line + " " + domain;
        }
    }
    if domains.is_empty() { String::new() } else { format!("{OF_NETWORK}\n{line}\n") }
}

pub(super) fn resolv_conf_file(content: String) -> File {
    File::new(&[("/etc", 0o755)], "etc/resolv.conf", 0o644, content)
}

/// Lines of resolv.conf: the name servers that are asked for, then the interfaces', each once, in order.
pub(super) fn name_servers(asked: &[IpAddr], interfaces: &[Interface]) -> String {
    let of_neutron = interfaces.iter().flat_map(|interface| &interface.dns);
    let mut servers: Vec<&IpAddr> = Vec::new();
    for server in asked.iter().chain(of_neutron) {
        if !servers.contains(&server) && servers.len() < MAX_DNS {
            servers.push(server);
        }
    }
    let mut lines = String::new();
    if !asked.is_empty() {
        let words: Vec<String> = asked.iter().map(IpAddr::to_string).collect();
        writeln!(lines, "{ASKED} {}", words.join(" ")).ok();
    }
    for server in servers {
        writeln!(lines, "nameserver {server}").ok();
    }
    lines
}

/// The name servers of a resolv.conf that are not Neutron's.
pub(super) fn asked_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let asked = resolv_conf.lines().find_map(|line| line.strip_prefix(ASKED)).unwrap_or_default();
    asked.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The lines below one that lets the agent see later whether anybody else has changed them.
pub(super) fn sealed(lines: &str) -> String {
    let digest = Sha256::digest(lines).iter().take(SEAL_BYTES).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").ok();
        hex
    });
    format!("# nova-docker-agent keeps this file as Neutron has it until it is edited ({digest})\n{lines}")
}

/// Whether the text is still as [`sealed`] made it.
pub(super) fn is_sealed(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(_, lines)| sealed(lines) == text)
}

/// The only authorised key, whatever the image had: whoever launches decides who may log in. Has the modes that sshd
/// requires.
pub(super) fn authorized_keys(key: &PublicKey) -> File {
    let directories = [("/root", 0o700), ("/root/.ssh", 0o700)];
    File::new(&directories, "root/.ssh/authorized_keys", 0o600, format!("{}\n", key.data.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(file: File) -> String {
        String::from_utf8(file.content).unwrap()
    }

    #[test]
    fn an_instance_without_an_address_still_knows_its_own_name() {
        assert!(
            text(hosts("web-1.example.org", &[], &Configuration::default(), &Peers::default()))
                .ends_with("127.0.1.1\tweb-1.example.org web-1\n")
        );
    }

    #[test]
    fn a_domain_makes_the_whole_name_whatever_the_host_name_has_of_its_own() {
        assert_eq!(own_names("web", Some("example.org")), "web.example.org web");
        assert_eq!(own_names("web.example.org", Some("example.org")), "web.example.org web");
        assert_eq!(own_names("web.a.org", Some("example.org")), "web.example.org web.a.org web");
        assert_eq!((own_names("web", None), own_names("web.a.org", None)), ("web".into(), "web.a.org web".into()));
    }

    #[test]
    fn name_servers_that_are_asked_for_come_first_and_do_without_neutrons() {
        let asked = Configuration { dns: vec!["192.0.2.9".parse().unwrap()], ..Configuration::default() };
        let alone = text(resolv_conf(&[], &asked).unwrap());
        assert!(alone.ends_with("\nnameserver 192.0.2.9\n") && is_sealed(&alone), "{alone}");
        let servers = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|server| server.parse().unwrap());
        let interface = Interface { dns: servers.to_vec(), ..crate::network::an_interface() };
        let three = text(resolv_conf(&[interface], &asked).unwrap());
        assert!(three.ends_with("192.0.2.9\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"), "{three}");
        assert_eq!(asked_servers(&three), asked.dns);
    }

    #[test]
    fn neutrons_domains_are_searched_unless_the_user_asks_for_others() {
        let of = |number: usize| format!("{}.example", "d".repeat(number));
        let interface = |search: Vec<String>| Interface {
            dns: vec!["192.0.2.1".parse().unwrap()],
            search,
            ..crate::network::an_interface()
        };
        let two = [interface(vec![of(1), of(2)]), interface(vec![of(2), of(3)])];
        let written = text(resolv_conf(&two, &Configuration::default()).unwrap());
        assert!(written.ends_with(&format!("\nsearch {} {} {}\n", of(1), of(2), of(3))), "{written}");
        assert_eq!(asked_lines(&written), "", "nobody asked for them");
        let asked = Configuration { dns_search: vec!["a.example".to_owned()], ..Configuration::default() };
        let written = text(resolv_conf(&two, &asked).unwrap());
        assert!(written.ends_with("\nnameserver 192.0.2.1\nsearch a.example\n"), "{written}");
        assert_eq!(asked_lines(&written), "search a.example\n");
        let many = searched("", &[interface((1..=9).map(of).collect())]);
        assert_eq!(many.split_whitespace().filter(|word| word.ends_with(".example")).count(), MAX_SEARCH);
        let long = searched("", &[interface(vec![of(1), format!("{}.example", "l".repeat(240)), of(2)])]);
        assert!(long.contains(&of(2)) && long.lines().all(|line| line.len() <= MAX_SEARCH_LINE), "{long}");
    }

    #[test]
    fn without_name_servers_the_images_file_stays() {
        let asked = Configuration { dns_search: vec!["example.org".to_owned()], ..Configuration::default() };
        assert_eq!(resolv_conf(&[], &asked), None);
    }

    #[test]
    fn names_and_search_domains_that_are_asked_for_come_after_the_instances_own() {
        let asked = Configuration {
            hosts: [("db".to_owned(), vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()])].into(),
            dns_search: vec!["a.example".to_owned(), "b.example".to_owned()],
            dns_opt: vec!["ndots:2".to_owned()],
            ..Configuration::default()
        };
        let hosts = text(hosts("web", &[], &asked, &Peers::default()));
        assert!(hosts.ends_with("127.0.1.1\tweb\n192.0.2.7\tdb\n2001:db8::7\tdb\n"), "{hosts}");
        let interface = Interface { dns: vec!["192.0.2.1".parse().unwrap()], ..crate::network::an_interface() };
        let written = text(resolv_conf(&[interface], &asked).unwrap());
        let lines = "search a.example b.example\noptions ndots:2\n";
        assert!(written.ends_with(&format!("nameserver 192.0.2.1\n{lines}")) && is_sealed(&written), "{written}");
        assert_eq!(asked_lines(&written), lines);
    }
}
