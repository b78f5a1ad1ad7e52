//! Sections with a keystone identity and a service, as keystoneauth has them.

use std::time::Duration;

use url::Url;

use super::kind::Kind;
use super::reader::Reader;
use super::spec::Spec;
use nova_docker_cloud::{AuthConfig, Credentials, EndpointConfig, Named, Scope, ServiceConfig, TlsConfig};

const INTERFACES: [&str; 6] = ["internal", "public", "admin", "internalURL", "publicURL", "adminURL"];
const AUTH_TYPES: Kind = Kind::Choice(&["password", "v3password", "v3applicationcredential"]);

/// Options of a connection, in any of these sections.
fn connection(section: &str) -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new(section, name, kind, help);
    vec![
        spec("auth_section", Kind::Text, "Section that has the identity, where it is not this one."),
        spec("cafile", Kind::Text, "PEM file of authorities that replace the system's."),
        spec("certfile", Kind::Text, "PEM file of a client certificate."),
        spec("keyfile", Kind::Text, "PEM file of its key."),
        spec("insecure", Kind::Bool, "Accept any server certificate."),
        spec("timeout", Kind::Float { min: 0.001 }, "Limit of one attempt of a call, in seconds."),
    ]
}

/// Options of the service's place.
fn adapter(section: &str) -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new(section, name, kind, help);
    vec![
        spec("service_type", Kind::Text, "Type of the service in the catalog."),
        spec("service_name", Kind::Text, "Name of the service in the catalog."),
        spec("valid_interfaces", Kind::List, "Interfaces of the catalog, the best first (internal, public)."),
        spec("region_name", Kind::Text, "Region of the catalog.").aliases(&["os_region_name"]),
        spec("endpoint_override", Kind::HttpUrl, "The service's address, instead of the catalog's."),
        spec("connect_retries", Kind::Int { min: 0, max: 100 }, "Repetitions after failed connections."),
        spec("status_code_retries", Kind::Int { min: 0, max: 100 }, "Repetitions after 502, 503 and 504."),
    ]
}

/// Options of an identity.
fn identity(section: &str) -> Vec<Spec> {
    let spec = |name, help| Spec::new(section, name, Kind::Text, help);
    vec![
        Spec::new(section, "auth_type", AUTH_TYPES, "How to log in.").aliases(&["auth_plugin"]),
        Spec::new(section, "auth_url", Kind::HttpUrl, "Keystone."),
        spec("username", "User.").aliases(&["user_name"]),
        spec("user_id", "User, by id."),
        spec("password", "Password.").secret(),
        spec("user_domain_name", "Domain of the user."),
        spec("user_domain_id", "Domain of the user, by id."),
        spec("project_name", "Project of the token.").aliases(&["tenant_name"]),
        spec("project_id", "Project of the token, by id.").aliases(&["tenant_id"]),
        spec("project_domain_name", "Domain of the project."),
        spec("project_domain_id", "Domain of the project, by id."),
        spec("default_domain_name", "Domain of user and project, where they have none."),
        spec("default_domain_id", "Domain of user and project, where they have none, by id."),
        spec("domain_name", "Domain of the token, instead of a project."),
        spec("domain_id", "Domain of the token, by id."),
        Spec::new(
            section,
            "system_scope",
            Kind::Choice(&["all"]),
            "A token for the whole system, instead of a project.",
        ),
        spec("application_credential_id", "Application credential."),
        spec("application_credential_name", "Application credential, by its name and its user."),
        spec("application_credential_secret", "Its secret.").secret(),
    ]
}

impl Reader<'_> {
    /// The identity of a section, if it has one. `needed`: it is an error when it has none.
    pub fn identity(&mut self, section: &str, needed: bool) -> Option<AuthConfig> {
        self.read(connection(section));
        let source = self.text(section, "auth_section").unwrap_or_else(|| section.to_owned());
        if source != section {
            self.read(connection(&source));
        }
        self.read(identity(&source));
        let Some(auth_type) = self.text(&source, "auth_type") else {
            let rejected = self.errors.iter().any(|error| error.is_about(&source, "auth_type"));
            if needed && !rejected {
                self.missing(
                    &source,
                    "auth_type",
                    "password or v3applicationcredential, with auth_url and the rest of an identity",
                );
            }
            return None;
        };
        let auth_url: Option<Url> = self.parsed(&source, "auth_url");
        if auth_url.is_none() {
            self.needed(&source, "auth_url", "keystone's URL");
        }
        let credentials = match auth_type.as_str() {
            "v3applicationcredential" => self.application_credential(&source),
            _ => self.password(&source),
        };
        let scope = self.scope(&source, &auth_type);
        Some(AuthConfig {
            auth_url: auth_url?,
            credentials: credentials?,
            scope,
            tls: self.tls(&source),
            timeout: self.timeout(&source),
        })
    }

    /// The place of a service; its identity is the section's own or none.
    pub fn service(&mut self, section: &str, service_type: &str, retries: u32, needed: bool) -> ServiceConfig {
        let auth = self.identity(section, needed);
        self.read(adapter(section));
        let interfaces = self.interfaces(section);
        let or = |reader: &Self, option| reader.parsed(section, option).unwrap_or(retries);
        ServiceConfig {
            auth,
            endpoint: EndpointConfig {
                service_type: self.text(section, "service_type").unwrap_or_else(|| service_type.to_owned()),
                service_name: self.text(section, "service_name"),
                region_name: self.text(section, "region_name"),
                valid_interfaces: interfaces,
                endpoint_override: self.parsed(section, "endpoint_override"),
                servers: Vec::new(),
            },
            tls: self.tls(section),
            timeout: self.timeout(section),
            connect_retries: or(self, "connect_retries"),
            status_code_retries: or(self, "status_code_retries"),
        }
    }

    fn interfaces(&mut self, section: &str) -> Vec<String> {
        let interfaces = self.list(section, "valid_interfaces");
        if interfaces.is_empty() {
            return vec!["internal".into(), "public".into()];
        }
        if interfaces.iter().any(|interface| !INTERFACES.contains(&interface.as_str())) {
            self.reject(section, "valid_interfaces", "a list of internal, public, admin");
        }
        interfaces.iter().map(|interface| interface.trim_end_matches("URL").to_owned()).collect()
    }

    pub fn tls(&self, section: &str) -> TlsConfig {
        TlsConfig {
            cafile: self.path(section, "cafile"),
            certfile: self.path(section, "certfile"),
            keyfile: self.path(section, "keyfile"),
            insecure: self.flag(section, "insecure"),
        }
    }

    pub fn timeout(&self, section: &str) -> Option<Duration> {
        self.parsed(section, "timeout").map(Duration::from_secs_f64)
    }

    /// Says that an option is missing, unless it was there and wrong.
    fn needed(&mut self, section: &str, option: &str, expected: &str) {
        if !self.errors.iter().any(|error| error.is_about(section, option)) {
            self.missing(section, option, expected);
        }
    }

    fn named(&self, section: &str, id: &str, name: &str) -> Option<Named> {
        self.text(section, id).map(Named::Id).or_else(|| self.text(section, name).map(Named::Name))
    }

    fn domain(&self, section: &str, id: &str, name: &str) -> Option<Named> {
        self.named(section, id, name).or_else(|| self.named(section, "default_domain_id", "default_domain_name"))
    }

    fn password(&mut self, section: &str) -> Option<Credentials> {
        let user = self.named(section, "user_id", "username");
        let user_domain = self.domain(section, "user_domain_id", "user_domain_name");
        let password = self.secret(section, "password");
        if user.is_none() {
            self.needed(section, "username", "the user that logs in");
        }
        if matches!(user, Some(Named::Name(_))) && user_domain.is_none() {
            self.needed(section, "user_domain_name", "the domain of the user (often Default)");
        }
        if password.is_none() {
            self.needed(section, "password", "the user's password");
        }
        Some(Credentials::Password { user: user?, user_domain, password: password? })
    }

    fn application_credential(&mut self, section: &str) -> Option<Credentials> {
        let id = self.named(section, "application_credential_id", "application_credential_name");
        let secret = self.secret(section, "application_credential_secret");
        let user = self.named(section, "user_id", "username");
        let user_domain = self.domain(section, "user_domain_id", "user_domain_name");
        if id.is_none() {
            self.needed(section, "application_credential_id", "the application credential that logs in");
        }
        if matches!(id, Some(Named::Name(_))) && user.is_none() {
            self.needed(section, "user_id", "the user whose application credential that is");
        }
        if secret.is_none() {
            self.needed(section, "application_credential_secret", "the credential's secret");
        }
        Some(Credentials::ApplicationCredential { id: id?, user, user_domain, secret: secret? })
    }

    fn scope(&mut self, section: &str, auth_type: &str) -> Scope {
        if auth_type == "v3applicationcredential" {
            return Scope::Unscoped;
        }
        if self.text(section, "system_scope").is_some() {
            return Scope::System;
        }
        if let Some(domain) = self.named(section, "domain_id", "domain_name") {
            return Scope::Domain(domain);
        }
        let Some(project) = self.named(section, "project_id", "project_name") else {
            self.needed(section, "project_name", "the project of the token (often service)");
            return Scope::Unscoped;
        };
        let domain = self.domain(section, "project_domain_id", "project_domain_name");
        if matches!(project, Named::Name(_)) && domain.is_none() {
            self.needed(section, "project_domain_name", "the domain of the project (often Default)");
        }
        Scope::Project { project, domain }
    }
}
