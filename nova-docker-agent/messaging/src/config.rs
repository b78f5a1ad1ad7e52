//! The operator's settings of the message bus.

use std::path::PathBuf;
use std::time::Duration;

use super::url::TransportUrl;

/// Requests that are looked at for each one that may run.
const LOOK_AHEAD: usize = 4;

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
    /// Half of Nova's `service_down_time`: a connection that is silent for longer is dead, whatever `heartbeat` says, because
    /// the next one must be there before the host counts as down.
    pub max_silence: Duration,
    /// `executor_thread_pool_size`: how many requests of one server are executed at a time.
    pub executor: usize,
    /// `rpc_ping_enabled`: servers answer `oslo_rpc_server_ping`, which proves that they execute requests.
    pub ping: bool,
    /// `rabbit_qos_prefetch_count`: how many requests wait here at most. 0 = [`Self::look_ahead`] decides.
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
    /// `use_queue_manager`: the name of the reply queue, which stays the same over restarts. None = a new one each time,
    /// deleted at the end.
    pub reply_queue: Option<String>,
    /// Only to look: what this process declares is its own and goes with its connection.
    pub observer: bool,
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
            max_silence: Duration::from_secs(30),
            executor: 64,
            ping: false,
            prefetch: 0,
            login: Login::default(),
            tls: TlsConfig::default(),
            retry_interval: Duration::from_secs(1),
            retry_interval_max: Duration::from_secs(30),
            missing_consumer_timeout: Duration::from_secs(60),
            publish_timeout: Duration::from_secs(60),
            reply_queue: None,
            observer: false,
            process: "nova-docker-agent".to_owned(),
        }
    }

    /// How long a connection may be without a sign of life.
    pub(super) fn silence(&self) -> Duration {
        if self.heartbeat.is_zero() { self.max_silence } else { self.heartbeat.min(self.max_silence) }
    }

    /// The interval that is negotiated with the broker, in seconds; 0 = no heartbeats. A connection is dead when nothing came
    /// for two intervals, which lapin looks for every half of one.
    pub(super) fn heartbeat_interval(&self) -> u16 {
        if self.heartbeat.is_zero() {
            return 0;
        }
        let interval = self.silence().mul_f64(0.4).as_secs();
        u16::try_from(interval).unwrap_or(u16::MAX).max(1)
    }

    /// How many requests are taken from the broker before they may begin: enough to find one that may among many that may
    /// not, and not so many that their bodies fill the memory.
    pub(super) fn look_ahead(&self) -> u16 {
        match self.prefetch {
            0 => self.executor.saturating_mul(LOOK_AHEAD).try_into().unwrap_or(u16::MAX),
            prefetch => prefetch,
        }
    }

    /// Applies the options in the query of the URL (`?ssl=true&rabbit_quorum_queue=true`), which win over those of the
    /// configuration file. Unknown names are ignored, as oslo.messaging does.
    ///
    /// # Errors
    /// One sentence for each value that is not of its option's type.
    pub fn apply_url_options(&mut self) -> Result<(), Vec<String>> {
        let options = self.url.options.clone();
        let wrong: Vec<String> = options.iter().filter_map(|(name, value)| self.apply(name, value).err()).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn apply(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("option {name} of the transport URL: {value:?} is not {expected}");
        let flag = || parse_flag(value).ok_or_else(|| wrong("a boolean"));
        let count = || value.parse::<u32>().map_err(|_| wrong("a number"));
        let seconds = || count().map(|seconds| Duration::from_secs(seconds.into()));
        match name {
            "amqp_durable_queues" => self.durable = flag()?,
            "amqp_auto_delete" => self.auto_delete = flag()?,
            "rabbit_ha_queues" => self.ha_queues = flag()?,
            "rabbit_quorum_queue" => self.quorum = flag()?,
            "rabbit_quorum_delivery_limit" => self.quorum_delivery_limit = count()?,
            // The second spelling is that of releases up to Zed.
            "rabbit_quorum_max_memory_length" | "rabbit_quroum_max_memory_length" => {
                self.quorum_max_memory_length = count()?;
            }
            "rabbit_quorum_max_memory_bytes" | "rabbit_quroum_max_memory_bytes" => {
                self.quorum_max_memory_bytes = count()?;
            }
            "rabbit_transient_quorum_queue" => self.transient_quorum = flag()?,
            "rabbit_transient_queues_ttl" => self.transient_ttl = seconds()?,
            "heartbeat_timeout_threshold" => self.heartbeat = seconds()?,
            "rabbit_qos_prefetch_count" => {
                self.prefetch = value.parse().map_err(|_| wrong("a number from 0 to 65535"))?;
            }
            "rabbit_login_method" => {
                self.login = Login::parse(value).ok_or_else(|| wrong("PLAIN, AMQPLAIN or EXTERNAL"))?;
            }
            "ssl" => self.tls.enabled = flag()?,
            "ssl_ca_file" => self.tls.ca_file = Some(value.into()),
            "ssl_cert_file" => self.tls.cert_file = Some(value.into()),
            "ssl_key_file" => self.tls.key_file = Some(value.into()),
            "rabbit_retry_interval" => self.retry_interval = seconds()?,
            "rabbit_interval_max" => self.retry_interval_max = seconds()?,
            "kombu_missing_consumer_retry_timeout" => self.missing_consumer_timeout = seconds()?,
            _ => {}
        }
        Ok(())
    }
}

impl Login {
    /// The mechanism that the option `rabbit_login_method` names.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "AMQPLAIN" => Some(Self::Amqplain),
            "PLAIN" => Some(Self::Plain),
            "EXTERNAL" => Some(Self::External),
            _ => None,
        }
    }
}

fn parse_flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> TransportConfig {
        TransportConfig::new(TransportUrl::parse(url).unwrap())
    }

    #[test]
    fn options_of_the_url_win() {
        let mut config =
            config("rabbit://h/?ssl=True&ssl_ca_file=/ca.pem&rabbit_quorum_queue=1&rabbit_login_method=plain&other=x");
        config.quorum = false;
        config.apply_url_options().unwrap();
        assert!(config.tls.enabled && config.quorum);
        assert_eq!(config.tls.ca_file, Some("/ca.pem".into()));
        assert_eq!(config.login, Login::Plain);
    }

    #[test]
    fn silence_is_noticed_before_the_host_counts_as_down() {
        let mut config = config("rabbit://h/");
        for (heartbeat, max_silence, expected, interval) in
            [(60, 30, 30, 12), (20, 30, 20, 8), (60, 300, 60, 24), (0, 30, 30, 0), (1, 30, 1, 1), (60, 2, 2, 1)]
        {
            (config.heartbeat, config.max_silence) = (Duration::from_secs(heartbeat), Duration::from_secs(max_silence));
            assert_eq!(config.silence(), Duration::from_secs(expected), "{heartbeat} {max_silence}");
            assert_eq!(config.heartbeat_interval(), interval, "{heartbeat} {max_silence}");
        }
    }

    #[test]
    fn every_wrong_option_is_named() {
        let wrong = config("rabbit://h/?ssl=maybe&heartbeat_timeout_threshold=-1").apply_url_options().unwrap_err();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("ssl") && wrong[1].contains("heartbeat_timeout_threshold"), "{wrong:?}");
    }
}
