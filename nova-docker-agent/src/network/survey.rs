//! What Open vSwitch on this host is, for an operator.

use serde_json::Value;

use super::ovs::{OpenVSwitch, rows, value_of};
use super::{Error, NetworkConfig};

/// What Open vSwitch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchSurvey {
    pub version: Option<String>,
    /// Who this host is to OVN.
    pub system_id: Option<String>,
    /// What OVN calls this host.
    pub hostname: Option<String>,
    /// Where OVN's southbound database is: OVN's controller is at work here.
    pub ovn_remote: Option<String>,
    /// Whether the bridge is there.
    pub has_bridge: bool,
    /// Whether the bridge's datapath is in user space.
    pub userspace: bool,
}

impl SwitchSurvey {
    /// What OVN calls this host, where it is at work and that is not `host`: no port binds here then.
    pub fn other_name(&self, host: &str) -> Option<&str> {
        self.ovn_remote.as_ref()?;
        self.hostname.as_deref().filter(|&name| name != host)
    }
}

/// Asks Open vSwitch what it is, and for the bridge.
///
/// # Errors
/// [`Error::OpenVSwitch`].
pub async fn survey(config: &NetworkConfig, bridge: &str) -> Result<SwitchSurvey, Error> {
    let NetworkConfig { ovsdb_connection: connection, ovsdb_timeout: timeout, isolates, .. } = config.clone();
    let ovs = OpenVSwitch { connection, timeout, isolates };
    let (about, bridges) = tokio::try_join!(ovs.about(), ovs.bridge(bridge))?;
    Ok(of(&about, &bridges))
}

fn of(about: &str, bridges: &str) -> SwitchSurvey {
    let about = rows(about).next().unwrap_or_default();
    let ids = about.get(1).cloned().unwrap_or_default();
    let id = |key: &str| value_of(&ids, key).map(str::to_owned);
    let bridge = rows(bridges).next();
    SwitchSurvey {
        version: about.first().and_then(Value::as_str).map(str::to_owned),
        system_id: id("system-id"),
        hostname: id("hostname"),
        ovn_remote: id("ovn-remote"),
        has_bridge: bridge.is_some(),
        userspace: bridge.is_some_and(|row| row.first().and_then(Value::as_str) == Some("netdev")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: &str = r#"{"headings":["ovs_version","external_ids"],"data":[["3.1.0",
        ["map",[["hostname","compute-7"],["ovn-remote","tcp:10.0.0.1:6642"],["system-id","abc"]]]]]}"#;

    #[test]
    fn a_host_of_ovn_tells_its_chassis() {
        let found = of(ABOUT, r#"{"headings":["datapath_type"],"data":[["system"]]}"#);
        assert_eq!(found.hostname.as_deref(), Some("compute-7"));
        assert_eq!(found.ovn_remote.as_deref(), Some("tcp:10.0.0.1:6642"));
        assert_eq!((found.has_bridge, found.userspace), (true, false));
    }

    #[test]
    fn an_absent_bridge_and_an_unset_version_are_none() {
        let about = r#"{"headings":["ovs_version","external_ids"],"data":[[["set",[]],["map",[]]]]}"#;
        assert_eq!(of(about, r#"{"headings":["datapath_type"],"data":[]}"#), SwitchSurvey::default());
    }
}
