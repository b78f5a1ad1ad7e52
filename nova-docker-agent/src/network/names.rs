//! Which name each interface has inside its instance.
//!
//! A name belongs to a port: whatever the order in which the ports are told, a running process never sees its `eth1` become
//! `eth0`. The veth pair itself says the name while it lives; Open vSwitch's record of it says it after a reboot of the host.

use std::collections::{BTreeMap, BTreeSet};

use super::Interface;

/// What is known of an instance's names before some of its interfaces are plugged.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names of links in the instance's namespace by the host sides of their pairs.
    pub(super) plugged: BTreeMap<String, String>,
    /// Names that were written down, by host sides.
    pub(super) recorded: BTreeMap<String, String>,
    /// Every name in the namespace.
    pub(super) taken: BTreeSet<String>,
}

impl Names {
    /// The interfaces with the names that they have or get: that of their pair, the one written down, the one that they ask
    /// for, or the first free one.
    pub(super) fn assign(mut self, interfaces: &[Interface]) -> Vec<Interface> {
        self.taken.extend(self.plugged.values().cloned());
        let mut recorded = BTreeMap::new();
        for (devname, name) in std::mem::take(&mut self.recorded) {
            if !self.plugged.contains_key(&devname) && self.taken.insert(name.clone()) {
                recorded.insert(devname, name);
            }
        }
        let known = |devname: &str| self.plugged.get(devname).or_else(|| recorded.get(devname)).cloned();
        let mut taken = self.taken.clone();
        let named = interfaces.iter().map(|interface| {
            let name = known(&interface.devname).unwrap_or_else(|| free_name(&interface.name, &taken));
            taken.insert(name.clone());
            Interface { name, ..interface.clone() }
        });
        named.collect()
    }
}

fn free_name(wanted: &str, taken: &BTreeSet<String>) -> String {
    if !taken.contains(wanted) {
        return wanted.to_owned();
    }
    let is_free = |name: &String| !taken.contains(name);
    (0_u32..).map(|number| format!("eth{number}")).find(is_free).unwrap_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::interface::tests::interface;

    fn of(devname: &str, name: &str) -> Interface {
        Interface { devname: devname.to_owned(), name: name.to_owned(), ..interface() }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(device, name)| ((*device).to_owned(), (*name).to_owned())).collect()
    }

    fn assigned(names: Names, interfaces: &[Interface]) -> Vec<String> {
        names.assign(interfaces).into_iter().map(|interface| interface.name).collect()
    }

    #[test]
    fn new_interfaces_have_the_names_that_they_ask_for() {
        assert_eq!(assigned(Names::default(), &[of("a", "eth0"), of("b", "eth1")]), ["eth0", "eth1"]);
    }

    #[test]
    fn an_interface_keeps_its_name_when_those_before_it_have_gone() {
        let plugged = Names { plugged: map(&[("b", "eth1")]), ..Names::default() };
        assert_eq!(assigned(plugged, &[of("b", "eth0")]), ["eth1"]);
        let recorded = Names { recorded: map(&[("b", "eth1")]), ..Names::default() };
        assert_eq!(assigned(recorded, &[of("b", "eth0")]), ["eth1"]);
    }

    #[test]
    fn a_new_interface_takes_no_name_of_another() {
        let plugged = Names { plugged: map(&[("b", "eth1")]), ..Names::default() };
        assert_eq!(assigned(plugged, &[of("b", "eth0"), of("c", "eth1")]), ["eth1", "eth0"]);
        let recorded = Names { recorded: map(&[("a", "eth0")]), ..Names::default() };
        assert_eq!(assigned(recorded, &[of("c", "eth0")]), ["eth1"]);
        let taken = Names { taken: ["eth0".to_owned()].into(), ..Names::default() };
        assert_eq!(assigned(taken, &[of("c", "eth0")]), ["eth1"]);
    }

    #[test]
    fn two_records_of_one_name_do_not_make_two_interfaces_of_it() {
        let recorded = Names { recorded: map(&[("a", "eth0"), ("b", "eth0")]), ..Names::default() };
        let mut names = assigned(recorded, &[of("a", "eth0"), of("b", "eth1")]);
        names.sort();
        assert_eq!(names, ["eth0", "eth1"]);
        let stale = Names { plugged: map(&[("a", "eth0")]), recorded: map(&[("b", "eth0")]), ..Names::default() };
        assert_eq!(assigned(stale, &[of("a", "eth0"), of("b", "eth1")]), ["eth0", "eth1"]);
    }
}
