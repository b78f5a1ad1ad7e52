//! The configuration of the registry for users, by the same rules as nova.conf: `[registry]`, `[keystone]`, `[glance]`, and the
//! options of `[DEFAULT]` about logs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use nova_docker_service::config::{self, ConfigError, Kind, Listing, Reader, Settings, Source, Spec};
use nova_docker_service::telemetry::LogConfig;
use url::Url;

use crate::public::{Anonymous, Config, PushConfig, TlsFiles, TokenConfig};
use crate::{Limits, Pace};
use nova_docker_cloud::{KeystoneConfig, Named};

/// The default path of its configuration.
pub const DEFAULT_FILE: &str = "/etc/nova-docker-agent/registry.conf";

const SECTION: &str = "registry";
const KEYSTONE: &str = "keystone";

/// What the configuration says of the registry for users, and of its logs.
#[derive(Clone, Debug)]
pub struct Options {
    pub registry: Config,
    pub log: LogConfig,
}

const TOKEN_KEY_FILE: &str = "Key of the tokens, shared by all processes of one public_url; made if missing.";
const UPLOAD_EXPIRY: &str = "Hours after which an abandoned upload, or a manifest that nobody has named, is removed.";
const UNTAGGED_RETENTION: &str =
    "Days after which the next push to its project deletes a pushed image without a tag; 0: never.";
const MAX_UNTAGGED: &str = "GiB of such images that a project may keep: beyond, the oldest go sooner; 0: no bound.";
const REQUEST_HEADER_TIMEOUT: &str =
    "Seconds that a client may take to send a request's headers, or the form of a login.";

fn specs() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new(SECTION, name, kind, help);
    let number = |name, min, max, default: &str, help| spec(name, Kind::Int { min, max }, help).or(default);
    let general = |name, help| Spec::new("DEFAULT", name, Kind::Bool, help).or("false");
    let keystone = |name, kind, help| Spec::new(KEYSTONE, name, kind, help);
    vec![
        general("debug", "Log more."),
        general("use_json", "Log as JSON."),
        spec("listen", Kind::Address, "Where it listens; beyond loopback only with TLS.").or("127.0.0.1:5000"),
        spec("tls_cert_file", Kind::Text, "Certificate chain (PEM)."),
        spec("tls_key_file", Kind::Text, "Private key (PEM) of the certificate."),
        spec("public_url", Kind::HttpUrl, "Where clients reach it; made from listen, if not set."),
        spec("state_directory", Kind::Text, "Directory of uploads, cache and key.").or("/var/lib/nova-docker-registry"),
        number("cache_size_gb", 1, 1_000_000, "20", "GiB of blobs to keep on disk."),
        number("token_lifetime_seconds", 1, 3600, "300", "Seconds that a client's token is valid."),
        spec("token_key_file", Kind::Text, TOKEN_KEY_FILE).or("$state_directory/token.key"),
        spec("push_roles", Kind::List, "Who may push and delete: a role of these in the project, or * for any.")
            .or("member, admin"),
        spec("anonymous_user", Kind::Text, "As whom public images are pulled without a login; not set: by nobody."),
        spec("anonymous_password", Kind::Text, "Its password, or the secret of its application credential.").secret(),
        number("max_manifest_kb", 1, 65_536, "4096", "KiB of one manifest."),
        number("max_blobs", 1, 2000, "1000", "Blobs of one manifest."),
        number("max_blob_gb", 1, 1_000_000, "100", "GiB of one blob."),
        number(
            "max_staged_gb_per_project",
            1,
            1_000_000,
            "200",
            "GiB that a project may have uploaded without a manifest.",
        ),
        number("max_staged_gb", 1, 1_000_000, "400", "GiB that all projects together may have uploaded so."),
        number("upload_expiry_hours", 1, 8760, "24", UPLOAD_EXPIRY),
        number("untagged_retention_days", 0, 3650, "0", UNTAGGED_RETENTION),
        number("max_untagged_gb_per_project", 0, 1_000_000, "0", MAX_UNTAGGED),
        number("max_connections", 1, 65_536, "4096", "Connections at the same time; more are refused (503)."),
        number("max_connections_per_address", 1, 65_536, "512", "Those of one address, or of one /64 of IPv6."),
        spec("shared_addresses", Kind::List, "Proxies and NATs, without a bound of their own: addresses or networks."),
        number("request_header_timeout_seconds", 1, 600, "10", REQUEST_HEADER_TIMEOUT),
        number("idle_timeout_seconds", 1, 3600, "60", "Seconds that a transfer may stand still, or a manifest take."),
        number("min_kb_per_second", 1, 1_048_576, "4", "KiB a second that a transfer must make in the long run."),
        keystone("auth_url", Kind::HttpUrl, "Keystone, where users are logged in.").required(),
        keystone("cafile", Kind::Text, "PEM file of authorities that replace the system's."),
        keystone("insecure", Kind::Bool, "Accept any server certificate."),
        keystone("timeout", Kind::Float { min: 0.001 }, "Limit of one attempt of a call, in seconds."),
        keystone("default_domain_id", Kind::Text, "Domain of users who name none, by id (default, if neither is set)."),
        keystone("default_domain_name", Kind::Text, "Domain of users who name none."),
    ]
}

/// Reads the sources in order, as the agent does.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load(sources: &[Source]) -> Result<(Options, Listing), Vec<ConfigError>> {
    config::load(sources, from_settings)
}

/// The configuration of settings from anywhere.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn from_settings(settings: &Settings) -> Result<(Options, Listing), Vec<ConfigError>> {
    let mut reader = Reader::new(settings);
    reader.read(specs());
    let config = build(&mut reader);
    reader.refuse_unknown(SECTION);
    reader.refuse_unknown(KEYSTONE);
    match config {
        Some(config) if reader.errors.is_empty() => Ok((config, Listing::new(&reader))),
        _ => Err(reader.errors),
    }
}

fn build(reader: &mut Reader) -> Option<Options> {
    let listen: Option<SocketAddr> = reader.parsed(SECTION, "listen");
    let tls = tls(reader, listen);
    let public_url = public_url(reader, listen, tls.is_some());
    let glance = reader.service("glance", "image", 3, false);
    if glance.endpoint.endpoint_override.is_none() && glance.auth.is_none() {
        let expected =
            "Glance's address (or an identity, auth_type and so on, with which to look it up in the catalog)";
        reader.missing("glance", "endpoint_override", expected);
    }
    let by_name = reader.text(KEYSTONE, "default_domain_name").map(Named::Name);
    let by_id = reader.text(KEYSTONE, "default_domain_id").map(Named::Id);
    let state_directory = reader.path(SECTION, "state_directory")?;
    let shared_addresses = networks(reader, "shared_addresses");
    let anonymous = anonymous(reader);
    let idle = reader.seconds(SECTION, "idle_timeout_seconds");
    let seconds = |option| reader.seconds(SECTION, option);
    let number = |option| reader.number::<u64>(SECTION, option);
    let unless_zero = |option| Some(number(option)).filter(|number| *number > 0);
    let registry = Config {
        listen: listen?,
        tls,
        cache_size: number("cache_size_gb") << 30,
        limits: Limits {
            connections: reader.number(SECTION, "max_connections"),
            connections_of_address: Some(reader.number(SECTION, "max_connections_per_address")),
            shared_addresses: shared_addresses.clone(),
            header: seconds("request_header_timeout_seconds"),
            pace: Pace { patience: idle, rate: number("min_kb_per_second") << 10 },
        },
        tokens: TokenConfig {
            public_url: public_url?,
            lifetime: seconds("token_lifetime_seconds"),
            domain: by_id.or(by_name).unwrap_or_else(|| Named::Id("default".into())),
            key_file: reader.path(SECTION, "token_key_file")?,
            push_roles: reader.list(SECTION, "push_roles").iter().map(|role| role.to_lowercase()).collect(),
            anonymous,
            shared_addresses,
        },
        push: PushConfig {
            state_directory: state_directory.clone(),
            max_manifest: reader.number::<usize>(SECTION, "max_manifest_kb") << 10,
            manifest_patience: idle,
            max_blobs: reader.number(SECTION, "max_blobs"),
            max_blob: number("max_blob_gb") << 30,
            max_staged: number("max_staged_gb_per_project") << 30,
            max_staged_in_all: number("max_staged_gb") << 30,
            upload_expiry: Duration::from_secs(number("upload_expiry_hours") * 3600),
            untagged_retention: unless_zero("untagged_retention_days")
                .map(|days| Duration::from_secs(days * 24 * 3600)),
            max_untagged: unless_zero("max_untagged_gb_per_project").map(|gb| gb << 30),
        },
        state_directory,
        keystone: KeystoneConfig {
            auth_url: reader.parsed(KEYSTONE, "auth_url")?,
            tls: reader.tls(KEYSTONE),
            timeout: reader.timeout(KEYSTONE),
        },
        glance,
    };
    let log = LogConfig { debug: reader.flag("DEFAULT", "debug"), json: reader.flag("DEFAULT", "use_json") };
    Some(Options { registry, log })
}

/// Passwords and tokens go over the network only with TLS.
fn tls(reader: &mut Reader, listen: Option<SocketAddr>) -> Option<TlsFiles> {
    let [certificate, key] = ["tls_cert_file", "tls_key_file"].map(|option| reader.path(SECTION, option));
    let needed = listen.is_some_and(|listen| !listen.ip().is_loopback());
    let reason = match needed {
        true => "a file (PEM), since listen is not a loopback address",
        false => "a file (PEM), since the other one of certificate and key is set",
    };
    let wanted = needed || certificate.is_some() || key.is_some();
    for (option, file) in [("tls_cert_file", &certificate), ("tls_key_file", &key)] {
        if wanted && file.is_none() {
            reader.missing(SECTION, option, reason);
        }
    }
    Some(TlsFiles { certificate: certificate?, key: key? })
}

/// The identity of those who have none.
fn anonymous(reader: &mut Reader) -> Option<Anonymous> {
    let (user, password) = (reader.text(SECTION, "anonymous_user"), reader.secret(SECTION, "anonymous_password"));
    match (&user, &password) {
        (Some(_), None) => reader.missing(SECTION, "anonymous_password", "the password of anonymous_user"),
        (None, Some(_)) => {
            reader.missing(SECTION, "anonymous_user", "USER, DOMAIN/USER or the id of an application credential");
        }
        _ => {}
    }
    Some(Anonymous { user: user?, password: password? })
}

/// Addresses and networks.
fn networks(reader: &mut Reader, option: &str) -> Vec<IpNet> {
    let texts = reader.list(SECTION, option);
    let network = |text: &String| text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
    let networks: Option<Vec<IpNet>> = texts.iter().map(network).collect();
    if networks.is_none() {
        reader.reject(SECTION, option, "a list of IP addresses and networks, such as 192.0.2.1, 198.51.100.0/24");
    }
    networks.unwrap_or_default()
}

fn public_url(reader: &mut Reader, listen: Option<SocketAddr>, tls: bool) -> Option<Url> {
    if let Some(url) = reader.parsed::<Url>(SECTION, "public_url") {
        if url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
            reader.reject(SECTION, "public_url", "a URL of scheme, host and port only: clients take /v2/ of that host");
        }
        if tls && url.scheme() != "https" {
            reader.reject(SECTION, "public_url", "a URL that begins with https://, since there is a certificate");
        }
        return Some(url);
    }
    let listen = listen?;
    if listen.ip().is_unspecified() || listen.port() == 0 {
        reader.missing(SECTION, "public_url", "where clients reach it, since listen does not say that");
        return None;
    }
    format!("{}://{listen}", if tls { "https" } else { "http" }).parse().ok()
}

#[cfg(test)]
mod tests;
