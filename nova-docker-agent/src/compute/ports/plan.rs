//! What an allocation will do, decided before anything is changed.

use std::collections::HashSet;
use std::net::IpAddr;

use uuid::Uuid;

use super::binding::check_binding;
use super::{AllocateRequest, NetworkError, Networks, Ports, RequestedNetwork, distinct, filters};
use crate::cloud::neutron::{Network, Port, SecurityGroup};
use crate::cloud::{Caller, Error, Identity};

/// The interfaces to make, in order.
pub(super) struct Plan {
    pub(super) slots: Vec<Slot>,
    /// Ids of the groups for ports that are made; empty leaves the choice (the default group) to neutron.
    pub(super) security_groups: Vec<String>,
    /// Neutron keeps DNS names.
    pub(super) dns: bool,
}

pub(super) struct Slot {
    pub(super) network: Network,
    pub(super) source: Source,
    pub(super) tag: Option<String>,
}

pub(super) enum Source {
    New { address: Option<IpAddr> },
    Existing(Box<Port>),
}

impl Slot {
    pub(super) fn has_dns_domain(&self) -> bool {
        self.network.dns_domain.as_deref().is_some_and(|domain| !domain.is_empty())
    }
}

impl Plan {
    /// The name to set along with the binding; networks with a DNS domain get theirs in a call of its own.
    pub(super) fn internal_dns_name(&self, request: &AllocateRequest, slot: &Slot) -> Option<String> {
        if self.dns && !slot.has_dns_domain() { request.hostname.clone() } else { None }
    }
}

impl Ports {
    pub(super) async fn plan(&self, caller: &Caller, request: &AllocateRequest) -> Result<Plan, NetworkError> {
        match self.plan_as(caller, request).await {
            // The token has expired in a queue. Nova's API has checked with it that the user may have these networks.
            Err(NetworkError::Neutron(error)) if error.status() == Some(401) && is_user(caller) => {
                tracing::warn!(%error, "the user's token is no longer good; asking neutron as the agent");
                self.plan_as(&caller.as_service(), request).await
            }
            result => result,
        }
    }

    async fn plan_as(&self, caller: &Caller, request: &AllocateRequest) -> Result<Plan, NetworkError> {
        let service = caller.as_service();
        let (slots, security_groups, dns) =
            tokio::try_join!(self.slots(caller, request), self.security_group_ids(caller, request), async {
                Ok::<_, NetworkError>(self.neutron.has_extension(&service, "dns-integration").await?)
            },)?;
        for slot in &slots {
            if slot.network.external && !slot.network.shared && !request.is_admin {
                return Err(NetworkError::ExternalNetworkAttachForbidden { network: slot.network.id });
            }
            let port_security = slot.network.port_security_enabled.unwrap_or(true);
            let without_addresses = port_security && slot.network.subnets.is_empty();
            if without_addresses || (!port_security && !security_groups.is_empty()) {
                return Err(NetworkError::SecurityGroupCannotBeApplied { network: slot.network.id });
            }
        }
        Ok(Plan { slots, security_groups, dns })
    }

    async fn slots(&self, caller: &Caller, request: &AllocateRequest) -> Result<Vec<Slot>, NetworkError> {
        let only = |network| vec![Slot { network, source: Source::New { address: None }, tag: None }];
        match &request.networks {
            Networks::None => Ok(Vec::new()),
            Networks::Unspecified => Ok(self.only_network(caller, request, false).await?.map(only).unwrap_or_default()),
            Networks::Auto => match self.only_network(caller, request, true).await? {
                Some(network) => Ok(only(network)),
                None => Ok(only(self.auto_network(caller, request).await?)),
            },
            Networks::Requested(wanted) => match wanted.as_slice() {
                [RequestedNetwork { network_id: None, port_id: None, address, tag }] => {
                    let network = self.only_network(caller, request, false).await?;
                    let network =
                        network.ok_or_else(|| NetworkError::NoNetwork { project: request.project_id.clone() })?;
                    Ok(vec![Slot { network, source: Source::New { address: *address }, tag: tag.clone() }])
                }
                wanted => self.requested_slots(caller, request, wanted).await,
            },
        }
    }

    /// The one network that the project can use: its own and the shared ones count.
    async fn only_network(
        &self,
        caller: &Caller,
        request: &AllocateRequest,
        ready: bool,
    ) -> Result<Option<Network>, NetworkError> {
        let mut own_filters = vec![("tenant_id", request.project_id.as_str()), ("shared", "False")];
        if ready {
            // A topology that neutron is still building is not up yet.
            own_filters.push(("admin_state_up", "True"));
        }
        let (own, shared) = tokio::try_join!(
            self.neutron.networks(caller, &own_filters),
            self.neutron.networks(caller, &[("shared", "True")])
        )?;
        let mut seen = HashSet::new();
        let mut networks = own.into_iter().chain(shared).filter(|network| seen.insert(network.id));
        match (networks.next(), networks.next()) {
            (Some(_), Some(_)) => Err(NetworkError::NetworkAmbiguous),
            (network, _) => Ok(network),
        }
    }

    async fn auto_network(&self, caller: &Caller, request: &AllocateRequest) -> Result<Network, NetworkError> {
        let unable = || NetworkError::UnableToAutoAllocateNetwork { project: request.project_id.clone() };
        let id = match self.neutron.auto_allocated_network(caller, &request.project_id).await {
            Ok(id) => id.to_string(),
            Err(error) if error.is_conflict() || error.is_not_found() => return Err(unable()),
            Err(error) => return Err(error.into()),
        };
        self.neutron.networks(caller, &[("id", &id)]).await?.pop().ok_or_else(unable)
    }

    async fn requested_slots(
        &self,
        caller: &Caller,
        request: &AllocateRequest,
        wanted: &[RequestedNetwork],
    ) -> Result<Vec<Slot>, NetworkError> {
        let mut ports = self.requested_ports(caller, request, wanted).await?;
        let of_ports = ports.iter().map(|port| port.network_id);
        let network_ids = distinct(wanted.iter().filter_map(|wanted| wanted.network_id).chain(of_ports));
        let networks = self.networks_of(caller, &network_ids, &ports).await?;
        let mut slots = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let port = wanted.port_id.and_then(|id| ports.iter().position(|port| port.id == id));
            let source = match port {
                Some(index) => Source::Existing(Box::new(ports.swap_remove(index))),
                None => Source::New { address: wanted.address },
            };
            let id = match &source {
                Source::Existing(port) => port.network_id,
                Source::New { .. } => match wanted.network_id {
                    Some(id) => id,
                    None => continue,
                },
            };
            let network = networks.iter().find(|network| network.id == id).cloned();
            let network = network.ok_or(NetworkError::NetworkNotFound { network: id })?;
            slots.push(Slot { network, source, tag: wanted.tag.clone() });
        }
        Ok(slots)
    }

    /// The networks, as the user sees them; the network of a port that the user may use is looked up by the agent where the user sees
    /// only the port.
    async fn networks_of(&self, caller: &Caller, ids: &[String], ports: &[Port]) -> Result<Vec<Network>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut networks = self.neutron.networks(caller, &filters("id", ids)).await?;
        let unseen = ports.iter().map(|port| port.network_id);
        let unseen = distinct(unseen.filter(|id| !networks.iter().any(|network| network.id == *id)));
        if !unseen.is_empty() {
            networks.extend(self.neutron.networks(&caller.as_service(), &filters("id", &unseen)).await?);
        }
        Ok(networks)
    }

    /// The requested ports, each found fit for the instance. Read by the agent, since only an administrator sees bindings.
    async fn requested_ports(
        &self,
        caller: &Caller,
        request: &AllocateRequest,
        wanted: &[RequestedNetwork],
    ) -> Result<Vec<Port>, NetworkError> {
        let wanted: Vec<Uuid> = wanted.iter().filter_map(|wanted| wanted.port_id).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let ids = distinct(wanted.iter().copied());
        let ports = self.neutron.ports(&caller.as_service(), &filters("id", &ids)).await?;
        let mut seen = HashSet::new();
        for &id in &wanted {
            let port = ports.iter().find(|port| port.id == id).ok_or(NetworkError::PortNotFound { port: id })?;
            if !seen.insert(id) {
                return Err(NetworkError::PortInUse { port: id });
            }
            check_usable(port, request)?;
            request.resources.allocation(port)?;
        }
        Ok(ports)
    }

    async fn security_group_ids(
        &self,
        caller: &Caller,
        request: &AllocateRequest,
    ) -> Result<Vec<String>, NetworkError> {
        let wanted: Vec<&str> = request.security_groups.iter().map(String::as_str).collect();
        // Neutron takes the default group by itself.
        if wanted.is_empty() || wanted == ["default"] || request.networks == Networks::None {
            return Ok(Vec::new());
        }
        let mut groups = self.neutron.security_groups(caller, &[("tenant_id", &request.project_id)]).await?;
        match resolve(&wanted, &groups) {
            Err(NetworkError::SecurityGroupNotFound { .. })
                if self.neutron.has_extension(&caller.as_service(), "security-groups-shared-filtering").await? =>
            {
                groups.extend(self.neutron.security_groups(caller, &[("shared", "True")]).await?);
                resolve(&wanted, &groups)
            }
            result => result,
        }
    }
}

fn is_user(caller: &Caller) -> bool {
    matches!(caller.identity, Identity::User(_))
}

fn check_usable(port: &Port, request: &AllocateRequest) -> Result<(), NetworkError> {
    let instance = request.instance_uuid;
    if port.tenant_id != request.project_id {
        return Err(NetworkError::PortNotUsable { port: port.id, instance });
    }
    if !port.device_id.is_empty() {
        return Err(NetworkError::PortInUse { port: port.id });
    }
    let hostname = request.hostname.as_deref().unwrap_or_default();
    if let Some(name) = port.dns_name.as_deref().filter(|name| !name.is_empty() && *name != hostname) {
        let (dns_name, hostname) = (name.to_owned(), hostname.to_owned());
        return Err(NetworkError::PortNotUsableDns { port: port.id, instance, dns_name, hostname });
    }
    check_binding(port, &request.host)
}

/// Ids of the groups that are wanted by id or by name.
fn resolve(wanted: &[&str], groups: &[SecurityGroup]) -> Result<Vec<String>, NetworkError> {
    wanted
        .iter()
        .map(|&wanted| {
            if groups.iter().any(|group| group.id == wanted) {
                return Ok(wanted.to_owned());
            }
            let named: HashSet<&str> =
                groups.iter().filter(|group| group.name == wanted).map(|group| group.id.as_str()).collect();
            let mut named = named.into_iter();
            match (named.next(), named.next()) {
                (None, _) => Err(NetworkError::SecurityGroupNotFound { group: wanted.to_owned() }),
                (Some(id), None) => Ok(id.to_owned()),
                (Some(_), Some(_)) => Err(NetworkError::SecurityGroupAmbiguous { group: wanted.to_owned() }),
            }
        })
        .collect()
}
