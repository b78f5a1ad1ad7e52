//! What a container was made of, to tell whether it would be made the same today.

use bollard::models::ContainerCreateBody;
use sha2::{Digest as _, Sha256};

use super::{Docker, DockerConfig, Error, container, labels};
use crate::guest::{Configuration, Guest, Inside, Peers};

impl Docker {
    /// Whether the guest's container was made of what the guest is now, and of what the operator says now. What changes by itself does
    /// not count: names, addresses of linked servers, files.
    pub async fn is_made_as(&self, guest: &Guest) -> Result<bool, Error> {
        let found = self.get(guest.uuid).await?;
        Ok(found.made_of == made_of(guest, &self.inner.config, self.quota_enforced()))
    }
}

/// A digest of what is asked of Docker for a guest.
pub(super) fn made_of(guest: &Guest, config: &DockerConfig, quota: bool) -> String {
    // It has run, or the container is back from the shelf, where it had run.
    let configuration = Configuration { script: None, ..guest.configuration.clone() };
    let steady = Guest {
        configuration,
        name: String::new(),
        created_by: String::new(),
        links: Peers::default(),
        inside: Inside::default(),
        rescues: false,
        ..guest.clone()
    };
    let hostname = guest.configuration.hostname.as_deref().unwrap_or_default();
    let body: ContainerCreateBody = container::body(&steady, hostname, "", &[], config, quota);
    // The maps in it are in the order of their keys.
    let text = serde_json::to_value(&body).unwrap_or_default().to_string();
    hex::encode(Sha256::digest(text))
}

/// Notes it at the container that is to be made, and the size of the guest's disk.
pub(super) fn note(body: &mut ContainerCreateBody, made_of: String, root_gb: u64) {
    let labels = body.labels.get_or_insert_default();
    labels.insert(labels::MADE_OF.to_owned(), made_of);
    labels.insert(labels::ROOT_GB.to_owned(), root_gb.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::configuration::Sources;

    fn made(metadata: &[(&str, &str)], change: impl FnOnce(&mut Guest, &mut DockerConfig)) -> String {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let configuration = Configuration::parse(&Sources { metadata, memory_mb: 64, ..Sources::default() }).unwrap();
        let (mut guest, mut config) = (container::an_instance(), DockerConfig::default());
        guest.configuration = configuration;
        change(&mut guest, &mut config);
        made_of(&guest, &config, true)
    }

    #[test]
    fn whatever_is_asked_for_is_told_apart_and_what_changes_by_itself_is_not() {
        let plain = made(&[], |_, _| {});
        assert_eq!(plain, made(&[("unrelated", "1")], |_, _| {}));
        assert_eq!(plain, made(&[], |guest, _| guest.name = "other".to_owned()));
        assert_eq!(plain, made(&[], |guest, _| guest.created_by = "other".to_owned()));
        assert_eq!(plain, made(&[], |guest, _| guest.inside.has_config_drive = true));
        let mut all: Vec<String> = [
            ("docker:env:A", "1"),
            ("docker:env:A", "2"),
            ("docker:command", "a"),
            ("docker:hostname", "web-1"),
            ("docker:restart", "always"),
            ("docker:read_only", "true"),
            ("docker:stop_grace_period", "9"),
            ("docker:link:db", "other"),
            ("docker:volume:a", "/a"),
            ("docker:logging:max-size", "1m"),
            ("docker:healthcheck", r#"{"test": "true"}"#),
        ]
        .iter()
        .map(|pair| made(&[*pair], |_, _| {}))
        .collect();
        all.extend([plain, made(&[], |guest, _| guest.memory_mb = 65), made(&[], |_, config| config.pids_limit = 7)]);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
