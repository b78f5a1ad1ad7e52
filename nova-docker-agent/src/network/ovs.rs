//! Open vSwitch ports, through `ovs-vsctl`: one transaction for all that is to change, and an answer only when
//! `ovs-vswitchd` has taken it.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

use super::interface::is_device_name;
use super::{Error, Interface};

/// Marks the interfaces that this agent has plugged; those of a hypervisor beside it are left alone.
const MARK: &str = "nova-docker-agent";

/// Where Neutron's agent, too, puts ports that are to reach nobody.
const DEAD_VLAN: u16 = 4095;

/// Where an interface's record keeps its name inside the instance.
const NAME: &str = "guest-name";
/// Where it keeps the gateways that it may be a way out to, separated by spaces.
const GATEWAYS: &str = "guest-gateways";

/// What the record of one interface keeps for us.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) devname: String,
    /// Name inside the instance; none when an older release plugged it.
    pub(super) name: Option<String>,
    pub(super) gateways: Vec<IpAddr>,
}

/// One Open vSwitch database.
#[derive(Clone, Debug)]
pub(super) struct OpenVSwitch {
    pub(super) connection: String,
    pub(super) timeout: Duration,
    /// New ports are put into a VLAN of nobody's, from which Neutron's agent takes them when it wires them.
    pub(super) isolates: bool,
}

/// One port to be.
pub(super) struct NewPort<'a> {
    pub(super) interface: &'a Interface,
    /// Whether a record of this name, if there is one, belongs to a device that has gone: it is made anew then.
    pub(super) stale: bool,
}

impl OpenVSwitch {
    /// Adds every port to its bridge, with what Neutron's agent looks for, in one transaction.
    pub(super) async fn add_ports(&self, instance: Uuid, ports: &[NewPort<'_>]) -> Result<(), Error> {
        if ports.is_empty() {
            return Ok(());
        }
        let commands: Vec<Vec<String>> =
            ports.iter().flat_map(|port| add_commands(instance, port, self.isolates)).collect();
        self.run(&format!("plug instance {instance}"), commands).await.map(drop)
    }

    /// Deletes every port of these names, in one transaction; no failure for those that are absent.
    pub(super) async fn delete_ports(&self, names: &[String]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let commands = names.iter().map(|name| words(&["--if-exists", "del-port", name])).collect();
        self.run(&format!("delete ports {}", names.join(", ")), commands).await.map(drop)
    }

    /// Names of the interfaces that carry the instance's `vm-uuid`.
    pub(super) async fn ports_of(&self, instance: Uuid) -> Result<Vec<String>, Error> {
        self.find_names(&format!("find the ports of instance {instance}"), &[vm_uuid_is(instance)]).await
    }

    /// Names of the interfaces that carry the instance's `vm-uuid` and Neutron's `port`.
    pub(super) async fn devices_of(&self, instance: Uuid, port: Uuid) -> Result<Vec<String>, Error> {
        let conditions = [vm_uuid_is(instance), format!("external_ids:iface-id=\"{port}\"")];
        self.find_names(&format!("find port {port} of instance {instance}"), &conditions).await
    }

    /// The records of an instance's interfaces.
    pub(super) async fn records(&self, instance: Uuid) -> Result<Vec<Record>, Error> {
        let mut command = words(&["--columns=name,external_ids", "find", "Interface"]);
        command.push(vm_uuid_is(instance));
        let table = self.run(&format!("read the interfaces of instance {instance}"), vec![command]).await?;
        Ok(rows(&table).filter_map(|row| record(&row)).collect())
    }

    async fn find_names(&self, action: &str, conditions: &[String]) -> Result<Vec<String>, Error> {
        let mut command = words(&["--columns=name", "find", "Interface"]);
        command.extend_from_slice(conditions);
        let table = self.run(action, vec![command]).await?;
        Ok(rows(&table).filter_map(|row| row.first()?.as_str().map(str::to_owned)).collect())
    }

    /// Every instance that has a port which this agent plugged.
    pub(super) async fn instances(&self) -> Result<Vec<Uuid>, Error> {
        let condition = format!("external_ids:plugged-by={MARK}");
        let command = words(&["--columns=external_ids", "find", "Interface", &condition]);
        let table = self.run("list plugged instances", vec![command]).await?;
        Ok(rows(&table).filter_map(|row| vm_uuid(row.first()?)).collect())
    }

    /// Whether the bridge's datapath is in user space: such a datapath forwards packets with the partial checksums that a
    /// veth hands over, and the receiver drops them. An absent bridge is not.
    pub(super) async fn is_userspace(&self, bridge: &str) -> Result<bool, Error> {
        let command = words(&["--if-exists", "get", "Bridge", bridge, "datapath_type"]);
        let answer = self.run(&format!("read the datapath type of bridge {bridge}"), vec![command]).await?;
        Ok(answer.trim().trim_matches('"') == "netdev")
    }

    /// The table of version and `external_ids`.
    pub(super) async fn about(&self) -> Result<String, Error> {
        let command = words(&["--columns=ovs_version,external_ids", "list", "Open_vSwitch"]);
        self.run("ask Open vSwitch what it is", vec![command]).await
    }

    /// The table of a bridge's datapath type; no row when it is absent.
    pub(super) async fn bridge(&self, bridge: &str) -> Result<String, Error> {
        let command = words(&["--columns=datapath_type", "find", "Bridge", &format!("name=\"{bridge}\"")]);
        self.run(&format!("find bridge {bridge}"), vec![command]).await
    }

    async fn run(&self, action: &str, commands: Vec<Vec<String>>) -> Result<String, Error> {
        let failed = |message: String| Error::OpenVSwitch {
            action: action.to_owned(),
            connection: self.connection.clone(),
            message,
        };
        let mut command = Command::new("ovs-vsctl");
        command.arg(format!("--db={}", self.connection)).arg(format!("--timeout={}", self.timeout.as_secs().max(1)));
        command.arg("--format=json");
        for words in commands {
            command.arg("--").args(words);
        }
        let output = command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| failed(format!("cannot run ovs-vsctl: {source}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(failed(if words.trim().is_empty() { output.status.to_string() } else { words.trim().replace('\n', "; ") }))
    }
}

fn add_commands(instance: Uuid, port: &NewPort<'_>, isolates: bool) -> Vec<Vec<String>> {
    let Interface { devname, name, bridge, mac, port_id, gateways, .. } = port.interface;
    let gateways = gateways.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let mut commands = Vec::new();
    if port.stale {
        commands.push(words(&["--if-exists", "del-port", devname]));
    }
    // A port that is there keeps the tag that it has.
    let mut add = words(&["--may-exist", "add-port", bridge, devname]);
    add.extend(isolates.then(|| format!("tag={DEAD_VLAN}")));
    commands.push(add);
    commands.push(vec![
        "set".to_owned(),
        "Interface".to_owned(),
        devname.clone(),
        format!("external_ids:iface-id=\"{port_id}\""),
        "external_ids:iface-status=active".to_owned(),
        format!("external_ids:attached-mac=\"{mac}\""),
        format!("external_ids:vm-uuid=\"{instance}\""),
        format!("external_ids:plugged-by={MARK}"),
        format!("external_ids:{NAME}={name}"),
        format!("external_ids:{GATEWAYS}=\"{gateways}\""),
    ]);
    commands
}

fn vm_uuid_is(instance: Uuid) -> String {
    format!("external_ids:vm-uuid=\"{instance}\"")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Rows of an answer in `--format=json`: `{"headings": [...], "data": [[...], ...]}`.
pub(super) fn rows(table: &str) -> impl Iterator<Item = Vec<Value>> {
    let table: Value = serde_json::from_str(table).unwrap_or_default();
    let data = table.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    data.into_iter().filter_map(|row| row.as_array().cloned())
}

fn vm_uuid(map: &Value) -> Option<Uuid> {
    Uuid::parse_str(value_of(map, "vm-uuid")?).ok()
}

/// A row of name and `external_ids`.
fn record(row: &[Value]) -> Option<Record> {
    let [name, ids] = row else { return None };
    let gateways = value_of(ids, GATEWAYS).unwrap_or_default();
    Some(Record {
        devname: name.as_str()?.to_owned(),
        name: value_of(ids, NAME).filter(|name| is_device_name(name)).map(str::to_owned),
        gateways: gateways.split_whitespace().filter_map(|gateway| gateway.parse().ok()).collect(),
    })
}

/// A value of a map in OVSDB's notation: `["map", [["key", "value"], ...]]`.
pub(super) fn value_of<'a>(map: &'a Value, key: &str) -> Option<&'a str> {
    let pairs = map.get(1)?.as_array()?;
    let pair = pairs.iter().find(|pair| pair.get(0).and_then(Value::as_str) == Some(key))?;
    pair.get(1)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_read_from_the_map_of_external_ids() {
        let table = r#"{"headings":["external_ids"],"data":[
            [["map",[["iface-id","x"],["vm-uuid","11111111-2222-3333-4444-555555555555"]]]],
            [["map",[["vm-uuid","dp1"]]]]]}"#;
        let found: Vec<Uuid> = rows(table).filter_map(|row| vm_uuid(row.first()?)).collect();
        assert_eq!(found, [Uuid::parse_str("11111111-2222-3333-4444-555555555555").unwrap()]);
    }

    #[test]
    fn a_record_tells_the_name_and_the_gateways_of_an_interface() {
        let table = r#"{"headings":["name","external_ids"],"data":[
            ["tap1",["map",[["guest-gateways","10.0.0.1 fd00::1"],["guest-name","eth1"]]]],
            ["tap2",["map",[["guest-name","../eth2"]]]]]}"#;
        let found: Vec<Record> = rows(table).filter_map(|row| record(&row)).collect();
        let gateways = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let first = Record { devname: "tap1".to_owned(), name: Some("eth1".to_owned()), gateways };
        assert_eq!(found, [first, Record { devname: "tap2".to_owned(), ..Record::default() }]);
    }

    #[test]
    fn nothing_is_read_from_an_answer_that_is_no_table() {
        assert_eq!(rows("").count(), 0);
        assert_eq!(rows("[1]").count(), 0);
    }
}
