//! A configuration for tests.

use crate::config::{self, Config, Settings};

const LEAST: &[((&str, &str), &str)] = &[
    (("DEFAULT", "transport_url"), "rabbit://u:s3cret@h/"),
    (("DEFAULT", "host"), "compute-7"),
    (("placement", "auth_type"), "v3applicationcredential"),
    (("placement", "auth_url"), "http://h/v3"),
    (("placement", "application_credential_id"), "1"),
    (("placement", "application_credential_secret"), "s3cret"),
    (("neutron", "auth_type"), "v3applicationcredential"),
    (("neutron", "auth_url"), "http://h/v3"),
    (("neutron", "application_credential_id"), "1"),
    (("neutron", "application_credential_secret"), "s3cret"),
];

pub(crate) type Setting = ((&'static str, &'static str), &'static str);

/// The least settings, and more.
pub(crate) fn settings(more: &[Setting]) -> Settings {
    Settings::from_map(LEAST.iter().chain(more).copied())
}

/// A configuration of host `compute-7`.
pub(crate) fn config(more: &[Setting]) -> Config {
    config::from_settings(&settings(more), &[]).expect("a configuration").0
}
