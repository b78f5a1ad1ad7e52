//! Removes one instance's data from the configuration of its snapshot: labels with the project's and the user's ids, host name,
//! environment, and what else its user has asked for.

use std::collections::HashMap;

use bollard::models::ImageConfig;
use serde_json::{Map, Value};

use crate::registry::volumes;

/// The comment of a commit that keeps an instance's files for its next container.
pub(super) const FILES_OF_AN_INSTANCE: &str = "the files of an instance";

/// What the image of the container was configured with.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    environment: Vec<String>,
    labels: HashMap<String, String>,
    /// Of what else a user can replace.
    others: [(&'static str, Option<Value>); 6],
}

impl Base {
    pub(super) fn of(config: &ImageConfig) -> Self {
        let words = |words: &Option<Vec<String>>| words.clone().map(Value::from);
        let text = |text: &Option<String>| text.clone().map(Value::from);
        Self {
            environment: config.env.clone().unwrap_or_default(),
            labels: config.labels.clone().unwrap_or_default(),
            others: [
                ("Cmd", words(&config.cmd)),
                ("Entrypoint", words(&config.entrypoint)),
                ("Healthcheck", config.healthcheck.as_ref().and_then(|check| serde_json::to_value(check).ok())),
                ("StopSignal", text(&config.stop_signal)),
                ("User", text(&config.user)),
                ("WorkingDir", text(&config.working_dir)),
            ],
        }
    }
}

impl Base {
    /// Leaves of an image's configuration what the image of the container had. Docker up to 24 also writes down how the
    /// committed container was configured, and every release writes its command into the history: at this commit, and at each
    /// one that kept the instance's files while its container was made anew.
    pub(super) fn scrub(&self, config: &mut Value) {
        let Some(image) = config.as_object_mut() else { return };
        image.remove("container");
        image.remove("container_config");
        let history = image.get_mut("history").and_then(Value::as_array_mut);
        if let Some(history) = history {
            let last = history.len().saturating_sub(1);
            let entries = history.iter_mut().enumerate().filter_map(|(n, entry)| Some((n, entry.as_object_mut()?)));
            for (_, commit) in entries.filter(|(n, entry)| *n == last || keeps_files(entry)) {
                commit.remove("created_by");
                commit.remove("comment");
            }
        }
        let Some(config) = image.get_mut("config").and_then(Value::as_object_mut) else { return };
        config.insert("Hostname".to_owned(), "".into());
        config.insert("Domainname".to_owned(), "".into());
        if let Some(environment) = config.get_mut("Env").and_then(Value::as_array_mut) {
            environment
                .retain(|variable| variable.as_str().is_some_and(|text| self.environment.iter().any(|e| e == text)));
        }
        if let Some(labels) = config.get_mut("Labels").and_then(Value::as_object_mut) {
            labels.retain(|label, _| self.labels.contains_key(label) && label != volumes::LABEL);
        }
        // Elsewhere they are volumes again.
        if let Some(label) = self.labels.get(volumes::LABEL) {
            let paths = volumes::paths(label).into_iter().map(|path| (path, Value::Object(Map::new())));
            config.insert("Volumes".to_owned(), Value::Object(paths.collect()));
        }
        for (name, value) in &self.others {
            match value {
                Some(value) => config.insert((*name).to_owned(), value.clone()),
                None => config.remove(*name),
            };
        }
    }
}

fn keeps_files(entry: &Map<String, Value>) -> bool {
    entry.get("comment").and_then(Value::as_str) == Some(FILES_OF_AN_INSTANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instances_traces_leave_the_configuration_and_all_else_stays() {
        let base = Base::of(&ImageConfig {
            env: Some(vec!["PATH=/bin".to_owned()]),
            labels: Some(
                [("mine".to_owned(), "1".to_owned()), (volumes::LABEL.to_owned(), r#"["/data"]"#.to_owned())].into(),
            ),
            user: Some("7".to_owned()),
            ..ImageConfig::default()
        });
        let mut config = serde_json::json!({"container": "c", "container_config": {"Hostname": "secret"}, "os": "linux",
            "history": [{"created_by": "of the image", "comment": "of its author"},
                {"created": "then", "created_by": "of the user", "comment": FILES_OF_AN_INSTANCE},
                {"created": "now", "created_by": "of the user"}],
            "config": {"Hostname": "h", "Env": ["PATH=/bin", "TOKEN="], "Entrypoint": ["of the user"], "User": "8",
                "Healthcheck": {"Test": ["CMD-SHELL", "secret"]},
                "Labels": {"org.openstack.nova.project-id": "", "of-the-user": "", "mine": "1", volumes::LABEL: "x"}}});
        base.scrub(&mut config);
        let expected = serde_json::json!({"os": "linux",
            "history": [{"created_by": "of the image", "comment": "of its author"}, {"created": "then"}, {"created": "now"}],
            "config": {"Hostname": "", "Domainname": "", "Env": ["PATH=/bin"], "User": "7", "Labels": {"mine": "1"},
                "Volumes": {"/data": {}}}});
        assert_eq!(config, expected);
    }
}
