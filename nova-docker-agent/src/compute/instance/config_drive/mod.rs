//! The content of an instance's config drive: what Nova's metadata service says, at the time of the launch
//! (`nova/api/metadata/base.py`, `metadata_for_config_drive`).
//!
//! | file | what |
//! |---|---|
//! | `meta_data` | `openstack/VERSION/meta_data.json` |
//! | `network_data` | `openstack/VERSION/network_data.json` |
//! | `ec2` | `ec2/VERSION/meta-data.json` |

mod ec2;
mod meta_data;
mod network_data;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tracing::warn;

use crate::compute::{Compute, arguments::instance_uuid, error::Error, ports::NetworkInfo};
use crate::{
    config::{MetadataConfig, VendorData},
    guest::{ConfigDrive, Guest, Inside},
    messaging::Context,
    objects::Instance,
};

/// Nova's versions of its metadata, oldest first, with the release that brought each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Folsom,
    Grizzly,
    Havana,
    Liberty,
    NewtonOne,
    NewtonTwo,
    Ocata,
    Rocky,
    Victoria,
    Epoxy,
}

/// By their names in the drive.
const VERSIONS: [(&str, Version); 11] = [
    ("2012-08-10", Version::Folsom),
    ("2013-04-04", Version::Grizzly),
    ("2013-10-17", Version::Havana),
    ("2015-10-15", Version::Liberty),
    ("2016-06-30", Version::NewtonOne),
    ("2016-10-06", Version::NewtonTwo),
    ("2017-02-22", Version::Ocata),
    ("2018-08-27", Version::Rocky),
    ("2020-10-14", Version::Victoria),
    ("2025-04-04", Version::Epoxy),
    ("latest", Version::Epoxy),
];

/// Everything that a drive is made of.
struct Sources<'a> {
    instance: &'a Instance,
    network: &'a NetworkInfo,
    inside: &'a Inside,
    /// Names of the security groups of the instance's ports.
    security_groups: Vec<String>,
    /// The content of the vendor's file; none without `StaticJSON`.
    vendor_data: Option<Value>,
    config: &'a MetadataConfig,
}

/// Whether the instance has a config drive: its user, its image or the operator wants it. The operator's wish is for launches only.
pub(crate) fn is_wanted(instance: &Instance, image: &Value, config: &MetadataConfig) -> bool {
    let is_launch = instance.str("launched_at").is_none();
    instance.wants_config_drive()
        || image["properties"]["img_config_drive"] == "mandatory"
        || (config.force_config_drive && is_launch)
}

impl Compute {
    /// Another container of the instance sees the config drive of the launch, where there is one.
    pub(in crate::compute) fn keep_config_drive(&self, instance: &Instance, image: &Value, guest: &mut Guest) {
        let is_there = self.driver.has_config_drive(guest.uuid);
        guest.inside.has_config_drive = is_there && is_wanted(instance, image, &self.config.metadata);
    }

    /// Makes the config drive of an instance that has one, for another container of it.
    pub(in crate::compute) async fn renew_config_drive(
        &self,
        context: &Context,
        instance: &Instance,
        image: &Value,
        network: &NetworkInfo,
        guest: &mut Guest,
    ) -> Result<(), Error> {
        guest.inside.has_config_drive = is_wanted(instance, image, &self.config.metadata);
        if guest.inside.has_config_drive {
            self.write_config_drive(context, instance, network, &guest.inside).await?;
        }
        Ok(())
    }

    /// Makes the config drive of an instance whose container is about to be made; its guest says that it has one.
    pub(in crate::compute) async fn write_config_drive(
        &self,
        context: &Context,
        instance: &Instance,
        network: &NetworkInfo,
        inside: &Inside,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let config = &self.config.metadata;
        let groups = self.ports.security_group_names(&self.caller(context).as_service(), uuid).await;
        let security_groups = groups.unwrap_or_else(|error| {
            warn!(%error, "the config drive names no security groups");
            Vec::new()
        });
        let vendor_data = vendor_data(&config.vendor_data).await?;
        let sources = Sources { instance, network, inside, security_groups, vendor_data, config };
        let drive = content(&sources).map_err(|problem| Error::exception("Invalid", problem, Value::Null))?;
        Ok(self.driver.write_config_drive(uuid, drive).await?)
    }
}

/// As Nova does, a launch fails when the operator's file cannot be read: what it is for may be security.
async fn vendor_data(config: &VendorData) -> Result<Option<Value>, Error> {
    let path = match config {
        VendorData::None => return Ok(None),
        VendorData::Empty => return Ok(Some(json!({}))),
        VendorData::File(path) => path,
    };
    let failed = |problem: String| {
        let message = format!("the vendor data {} cannot be read: {problem}", path.display());
        Error::exception("NovaException", message, Value::Null)
    };
    let text = tokio::fs::read(path).await.map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.to_string()))
}

fn content(sources: &Sources<'_>) -> Result<ConfigDrive, String> {
    let mut drive = ConfigDrive::default();
    let user_data = sources.instance.user_data().map(decoded).transpose()?;
    ec2::add(&mut drive, sources, user_data.as_deref())?;
    let network_data = network_data::of(sources.network)?;
    for (name, version) in VERSIONS {
        let mut add = |file: &str, content: Vec<u8>| drive.add(format!("openstack/{name}/{file}"), content);
        add("meta_data.json", bytes(&meta_data::of(sources, version)))?;
        if let Some(user_data) = &user_data {
            add("user_data", user_data.clone())?;
        }
        if version >= Version::Havana
            && let Some(vendor_data) = &sources.vendor_data
        {
            add("vendor_data.json", bytes(vendor_data))?;
        }
        if version >= Version::Liberty {
            add("network_data.json", bytes(&network_data))?;
        }
        if version >= Version::NewtonTwo {
            let data = sources.vendor_data.as_ref().map_or_else(|| json!({}), |data| json!({ "static": data }));
            add("vendor_data2.json", bytes(&data))?;
        }
    }
    for (number, file) in sources.inside.files.iter().enumerate() {
        drive.add(format!("openstack{}", content_path(number)), file.content.clone())?;
    }
    Ok(drive)
}

/// Where the drive has the user's file of this number, below `openstack`.
fn content_path(number: usize) -> String {
    format!("/content/{number:04}")
}

fn decoded(user_data: &str) -> Result<Vec<u8>, String> {
    let text: String = user_data.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map_err(|error| format!("the user data is no base64: {error}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// With the domain, as the metadata service tells it.
fn hostname(sources: &Sources<'_>) -> String {
    let name = sources.instance.hostname().unwrap_or_default();
    match sources.config.dhcp_domain.as_str() {
        "" => name.to_owned(),
        domain => format!("{name}.{domain}"),
    }
}

#[cfg(test)]
mod tests;
