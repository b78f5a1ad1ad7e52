//! Ports for an instance.

use std::net::IpAddr;

use futures::future::join_all;

use super::binding::{check_binding, device_owner};
use super::plan::{Plan, Slot, Source};
use super::{AllocateRequest, NetworkError, Ports};
use crate::cloud::neutron::{NewPort, Port, PortUpdate};
use crate::cloud::{Caller, Error, Identity, Neutron};

/// The bound ports, in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct Allocation {
    pub ports: Vec<AllocatedPort>,
}

#[derive(Clone, Debug)]
pub struct AllocatedPort {
    pub port: Port,
    /// Made by the allocation; otherwise it is the user's, and must outlive the instance.
    pub created: bool,
    pub tag: Option<String>,
}

/// One slot, and for whom it is filled.
struct Filling<'a> {
    neutron: &'a Neutron,
    caller: &'a Caller,
    request: &'a AllocateRequest,
    plan: &'a Plan,
    slot: &'a Slot,
}

/// What became of one slot, when something went wrong with it or another.
struct Failed {
    error: NetworkError,
    /// The port that there is nevertheless.
    left: Option<AllocatedPort>,
}

impl Ports {
    /// Finds, creates and binds the ports of an instance. What the user may do is asked with the caller's identity, binding is done
    /// with the agent's.
    ///
    /// # Errors
    /// [`NetworkError`]; then no port of the request is left created or bound, unless neutron gave no answer that makes sense: its port, if it made one
    /// after all, has the instance as its device, and [`Ports::deallocate`] finds it.
    pub async fn allocate(&self, caller: &Caller, request: &AllocateRequest) -> Result<Allocation, NetworkError> {
        let plan = self.plan(caller, request).await?;
        let neutron = &self.neutron;
        let fillings = plan.slots.iter().map(|slot| Filling { neutron, caller, request, plan: &plan, slot });
        let results = join_all(fillings.map(Filling::fill)).await;
        let mut ports = Vec::new();
        let mut first_error = None;
        for result in results {
            match result {
                Ok(port) => ports.push(port),
                Err(Failed { error, left }) => {
                    ports.extend(left);
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            None => Ok(Allocation { ports }),
            Some(error) => {
                self.undo(caller, ports).await;
                Err(error)
            }
        }
    }

    /// Gives back what an allocation took: deletes created ports, unbinds the user's. Failures are logged.
    pub async fn release(&self, caller: &Caller, allocation: Allocation) {
        self.undo(caller, allocation.ports).await;
    }

    async fn undo(&self, caller: &Caller, ports: Vec<AllocatedPort>) {
        join_all(ports.iter().map(|allocated| async {
            let port = allocated.port.id;
            let result = if allocated.created {
                self.neutron.delete_port(&caller.as_service(), port).await.map(drop)
            } else {
                self.unbind(caller, &allocated.port).await
            };
            if let Err(error) = result {
                tracing::warn!(%port, %error, "cannot give a port back after a failed allocation");
            }
        }))
        .await;
    }
}

impl Filling<'_> {
    async fn fill(self) -> Result<AllocatedPort, Failed> {
        let Self { request, plan, slot, .. } = self;
        let bound = match &slot.source {
            Source::New { address } => self.create_bound(*address).await?,
            Source::Existing(port) => self.bind_existing(port).await?,
        };
        check_binding(&bound.port, &request.host).map_err(|error| Failed { error, left: Some(bound.clone()) })?;
        if bound.created && bound.port.resource_request.as_ref().is_some_and(|value| !value.is_null()) {
            let error = NetworkError::NetworksWithQosPolicyNotSupported { network: slot.network.id };
            return Err(Failed { error, left: Some(bound) });
        }
        if plan.dns && slot.has_dns_domain() {
            let named = self.name_externally(&bound).await;
            named.map_err(|error| Failed { error, left: Some(bound.clone()) })?;
        }
        Ok(bound)
    }

    /// A new port, bound. The agent may make and bind it in one call, which saves neutron as much work as the creation itself; but what
    /// neutron's policy guards for users at creation (a chosen address on somebody else's network) is asked as the user.
    async fn create_bound(&self, address: Option<IpAddr>) -> Result<AllocatedPort, Failed> {
        let &Self { caller, request, plan, slot, .. } = self;
        let as_user = address.is_some() && matches!(caller.identity, Identity::User(_));
        let mut port = NewPort {
            network_id: slot.network.id,
            tenant_id: request.project_id.clone(),
            device_id: request.instance_uuid.to_string(),
            admin_state_up: true,
            fixed_ips: address.iter().map(ToString::to_string).collect(),
            security_groups: plan.security_groups.clone(),
            ..NewPort::default()
        };
        if !as_user {
            port.device_owner = Some(device_owner(request));
            port.host_id = Some(request.host.clone());
            port.dns_name = plan.internal_dns_name(request, slot);
        }
        let asker = if as_user { caller.clone() } else { caller.as_service() };
        let created = self.neutron.create_port(&asker, &port).await;
        let created =
            created.map_err(|error| Failed { error: create_error(error, request, slot, address), left: None })?;
        let allocated = |port| AllocatedPort { port, created: true, tag: slot.tag.clone() };
        if !as_user {
            return Ok(allocated(created));
        }
        match self.bind(&created).await {
            Ok(bound) => Ok(allocated(bound)),
            Err(error) => Err(Failed { error, left: Some(allocated(created)) }),
        }
    }

    async fn bind_existing(&self, port: &Port) -> Result<AllocatedPort, Failed> {
        let allocated = |port: Port| AllocatedPort { port, created: false, tag: self.slot.tag.clone() };
        match self.bind(port).await {
            Ok(bound) => Ok(allocated(bound)),
            // Without an answer neutron may have bound it.
            Err(error @ NetworkError::Neutron(Error::Unreachable { .. })) => {
                Err(Failed { error, left: Some(allocated(port.clone())) })
            }
            Err(error) => Err(Failed { error, left: None }),
        }
    }

    async fn bind(&self, port: &Port) -> Result<Port, NetworkError> {
        let &Self { caller, request, plan, slot, .. } = self;
        let mut update = PortUpdate::new()
            .set("device_id", request.instance_uuid.to_string())
            .set("device_owner", device_owner(request))
            .set("binding:host_id", request.host.as_str());
        let mut profile = port.profile.clone().unwrap_or_default();
        profile.extend(request.resources.allocation(port)?.map(|allocation| ("allocation".to_owned(), allocation)));
        if !profile.is_empty() {
            update = update.set("binding:profile", profile);
        }
        if let Some(name) = plan.internal_dns_name(request, slot) {
            update = update.set("dns_name", name);
        }
        self.neutron.update_port(&caller.as_service(), port.id, &update).await.map_err(|error| match error.code() {
            Some("HostNotCompatibleWithFixedIps") => NetworkError::FixedIpInvalidOnHost { port: port.id },
            _ if error.is_not_found() => NetworkError::PortNotFound { port: port.id },
            _ => error.into(),
        })
    }

    /// A network with a DNS domain has its names in the user's zones, so the name is set as the user.
    async fn name_externally(&self, bound: &AllocatedPort) -> Result<(), NetworkError> {
        let Some(hostname) = &self.request.hostname else { return Ok(()) };
        let update = PortUpdate::new().set("dns_name", hostname.as_str());
        match self.neutron.update_port(self.caller, bound.port.id, &update).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(400) => {
                Err(NetworkError::InvalidHostname { hostname: hostname.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Neutron's words for a failed creation, in Nova's.
fn create_error(error: Error, request: &AllocateRequest, slot: &Slot, address: Option<IpAddr>) -> NetworkError {
    let network = slot.network.id;
    let address = || address.map(|address| address.to_string()).unwrap_or_default();
    match error.code() {
        Some("OverQuota") => NetworkError::PortLimitExceeded { project: request.project_id.clone() },
        Some("IpAddressGenerationFailure" | "ExternalIpAddressExhausted") => NetworkError::NoMoreFixedIps { network },
        Some("IpAddressInUse" | "IpAddressAlreadyAllocated") => {
            NetworkError::FixedIpAlreadyInUse { address: address() }
        }
        Some("InvalidIpForNetwork" | "InvalidIpForSubnet") => {
            NetworkError::InvalidFixedIp { address: address(), network }
        }
        Some("PortSecurityAndIPRequiredForSecurityGroups") => NetworkError::SecurityGroupCannotBeApplied { network },
        Some("NetworkNotFound") => NetworkError::NetworkNotFound { network },
        _ => error.into(),
    }
}
