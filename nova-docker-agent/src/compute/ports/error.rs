//! Why an instance's networking failed, in Nova's own cases.

use uuid::Uuid;

use crate::cloud::Error;

/// Each variant with a name of `nova.exception` means that exception.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("Port {port} could not be found.")]
    PortNotFound { port: Uuid },
    #[error("Port {port} is still in use.")]
    PortInUse { port: Uuid },
    #[error("Port {port} not usable for instance {instance}.")]
    PortNotUsable { port: Uuid, instance: Uuid },
    #[error(
        "Port {port} not usable for instance {instance}: its dns_name {dns_name:?} is not the instance's hostname {hostname:?}."
    )]
    PortNotUsableDns { port: Uuid, instance: Uuid, dns_name: String, hostname: String },
    #[error(
        "Binding failed for port {port} on host {host}; see neutron's logs for the reason (is the L2 agent of this host alive?)."
    )]
    PortBindingFailed { port: Uuid, host: String },
    #[error("The port quota of project {project} is exhausted.")]
    PortLimitExceeded { project: String },
    #[error("No fixed IP addresses available for network {network}.")]
    NoMoreFixedIps { network: Uuid },
    #[error("Fixed IP address {address} is already in use.")]
    FixedIpAlreadyInUse { address: String },
    /// nova.exception.InvalidInput
    #[error("Fixed IP {address} is not a valid address for network {network}.")]
    InvalidFixedIp { address: String, network: Uuid },
    #[error("Port {port} has addresses of a network segment that this host is not on.")]
    FixedIpInvalidOnHost { port: Uuid },
    #[error("Network {network} could not be found.")]
    NetworkNotFound { network: Uuid },
    #[error("More than one possible network found: request one by its id.")]
    NetworkAmbiguous,
    /// nova.exception.InterfaceAttachFailedNoNetwork
    #[error("No network can be found for project {project}.")]
    NoNetwork { project: String },
    #[error("Unable to automatically allocate a network for project {project}.")]
    UnableToAutoAllocateNetwork { project: String },
    #[error("It is not allowed to create an interface on external network {network}.")]
    ExternalNetworkAttachForbidden { network: Uuid },
    #[error(
        "Network {network} has a QoS policy that asks for resources, which is not supported for ports made at launch: pass a port."
    )]
    NetworksWithQosPolicyNotSupported { network: Uuid },
    /// nova.exception.PortNotUsable
    #[error(
        "Port {port} asks for resources (a QoS policy with a minimum of bandwidth or packets), and the scheduler has reserved none for it: \
         they are reserved when a server is launched with the port, not when it is attached to one."
    )]
    PortResourcesNotReserved { port: Uuid },
    #[error("Security group {group} not found.")]
    SecurityGroupNotFound { group: String },
    /// nova.exception.NoUniqueMatch
    #[error("Multiple security groups found matching {group:?}: use an id.")]
    SecurityGroupAmbiguous { group: String },
    #[error(
        "Network {network} requires port security with a subnet, or has port security disabled, so security groups cannot be applied."
    )]
    SecurityGroupCannotBeApplied { network: Uuid },
    /// nova.exception.InvalidInput
    #[error("Hostname {hostname:?} is not a valid DNS name for neutron.")]
    InvalidHostname { hostname: String },
    /// Anything else: a refusal or outage of neutron.
    #[error(transparent)]
    Neutron(#[from] Error),
}

impl NetworkError {
    /// Whether the same may succeed at another time, or on another host: the rest is wrong wherever it is tried.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::PortBindingFailed { .. } | Self::Neutron(_))
    }

    /// The class of nova.exception that says the same, and its keyword arguments are this variant's fields.
    pub fn nova_class(&self) -> &'static str {
        match self {
            Self::PortNotFound { .. } => "PortNotFound",
            Self::PortInUse { .. } => "PortInUse",
            Self::PortNotUsable { .. } | Self::PortResourcesNotReserved { .. } => "PortNotUsable",
            Self::PortNotUsableDns { .. } => "PortNotUsableDNS",
            Self::PortBindingFailed { .. } => "PortBindingFailed",
            Self::PortLimitExceeded { .. } => "PortLimitExceeded",
            Self::NoMoreFixedIps { .. } => "NoMoreFixedIps",
            Self::FixedIpAlreadyInUse { .. } => "FixedIpAlreadyInUse",
            Self::InvalidFixedIp { .. } | Self::InvalidHostname { .. } => "InvalidInput",
            Self::FixedIpInvalidOnHost { .. } => "FixedIpInvalidOnHost",
            Self::NetworkNotFound { .. } => "NetworkNotFound",
            Self::NetworkAmbiguous => "NetworkAmbiguous",
            Self::NoNetwork { .. } => "InterfaceAttachFailedNoNetwork",
            Self::UnableToAutoAllocateNetwork { .. } => "UnableToAutoAllocateNetwork",
            Self::ExternalNetworkAttachForbidden { .. } => "ExternalNetworkAttachForbidden",
            Self::NetworksWithQosPolicyNotSupported { .. } => "NetworksWithQoSPolicyNotSupported",
            Self::SecurityGroupNotFound { .. } => "SecurityGroupNotFound",
            Self::SecurityGroupAmbiguous { .. } => "NoUniqueMatch",
            Self::SecurityGroupCannotBeApplied { .. } => "SecurityGroupCannotBeApplied",
            Self::Neutron(_) => "NovaException",
        }
    }
}
