//! Images as the world writes them, in a real Docker that pulls from our own registry.

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::images::{self, Stored};
use integration_tests::instance::guest;
use integration_tests::on_host;
use nova_docker_agent::docker::Error;
use nova_docker_agent::guest::Guest;
use nova_docker_agent::registry::{Registry, RegistryConfig};
use serde_json::{Value, json};

async fn registry(dockerd: &Dockerd) -> Registry {
    let cache_directory = dockerd.path("cache");
    let config = RegistryConfig { listen: "127.0.0.1:0".parse().unwrap(), cache_directory, cache_size: 1 << 30 };
    Registry::start(config).await.unwrap()
}

/// Pulls an image, and creates and starts a guest of it.
async fn launch(dockerd: &Dockerd, registry: &Registry, image: &Stored, guest: &Guest) -> Result<(), Error> {
    let driver = dockerd.driver().await;
    let lease = registry.open(&image.descriptor(), std::sync::Arc::new(Stored(image.0.clone())), None).await.unwrap();
    driver.pull(&lease.reference).await?;
    driver.create(guest, &lease.reference.name, &[]).await?;
    driver.start(guest.uuid).await.map(drop)
}

fn a_configuration_that_docker_takes_is_launched() {
    on_host(async |host| {
        let docker = host.docker().await;
        let registry = registry(&docker).await;
        let saved = images::save(&docker, IMAGE).await;
        for (key, value) in [
            ("/config/Entrypoint", json!("/bin/busybox")),
            ("/config/Entrypoint", json!("")),
            ("/config/Entrypoint", Value::Null),
            ("/config/Cmd", json!("x")),
            ("/config/Env", Value::Null),
            ("/architecture", Value::Null),
            ("/architecture", json!("")),
            ("/architecture", json!("x86_64")),
            ("/os", json!("")),
            ("/os", Value::Null),
            ("/history", Value::Null),
            ("/config/Volumes", json!({"/etc/passwd": {}, "relative": {}, "/": {}})),
            ("/nobody.knows.this", json!({"a": [1]})),
        ] {
            let image = images::reconfigured(&saved, |config| set(config, key, value.clone()));
            let guest = guest("sleep 1000");
            let launched = launch(&docker, &registry, &image, &guest).await;
            if docker.has_image_store().await && value.is_string() && key.starts_with("/config/") {
                // It reads lists there and nothing else.
                let refused = launched.unwrap_err();
                assert!(matches!(refused, Error::ImageUnacceptable { .. }), "{key} {value}: {refused:?}");
                assert!(refused.to_string().contains("cannot unmarshal string"), "{key} {value}: {refused}");
            } else {
                launched.unwrap_or_else(|error| panic!("{key} {value}: {error}"));
            }
            docker.driver().await.remove(guest.uuid).await.unwrap();
        }
    });
}

fn set(config: &mut Value, key: &str, value: Value) {
    let (parent, name) = key.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[name] = value;
}

fn what_is_wrong_with_an_image_or_a_flavor_is_told_in_dockers_words_and_final() {
    on_host(async |host| {
        let docker = host.docker().await;
        let registry = registry(&docker).await;
        let saved = images::save(&docker, IMAGE).await;
        for (key, value, words) in [
            ("/config/User", json!("nosuch"), "unable to find user nosuch"),
            ("/config/User", json!("root:nosuch"), "unable to find group nosuch"),
            ("/config/User", json!("99999999999"), "uids and gids must be in range"),
            ("/config/Env", json!(["=x"]), "environment variable name can't be empty"),
            ("/config/WorkingDir", json!("rel/dir"), "Cwd must be an absolute path"),
            ("/config/WorkingDir", json!("/etc/passwd"), "/etc/passwd is not a directory"),
            ("/config/Entrypoint", json!(["/no/such"]), "command \"/no/such\" cannot be run"),
            ("/config/Entrypoint", json!(7), "cannot unmarshal number"),
            ("/config/Env", json!({"A": "b"}), "Env"),
            ("/created", json!("yesterday"), "yesterday"),
            ("/history", json!([{}, {}, {}]), "too many non-empty layers"),
        ] {
            let image = images::reconfigured(&saved, |config| set(config, key, value.clone()));
            let guest = guest("sleep 1000");
            let launched = launch(&docker, &registry, &image, &guest).await;
            let Err(error) = launched else {
                assert!(key == "/history" && docker.has_image_store().await, "{key} {value}: it was launched");
                // It reads no history.
                docker.driver().await.remove(guest.uuid).await.unwrap();
                continue;
            };
            let is_final = matches!(
                error,
                Error::Invalid { .. } | Error::ImageUnacceptable { .. } | Error::CommandNotFound { .. }
            );
            assert!(is_final && error.to_string().contains(words), "{key} {value}: {error:?}");
            docker.driver().await.remove(guest.uuid).await.unwrap();
        }
        let small = Guest { memory_mb: 4, ..guest("sleep 1000") };
        let error = launch(&docker, &registry, &saved, &small).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { .. }) && error.to_string().contains("Minimum memory"), "{error:?}");
    });
}

tests! {
    a_configuration_that_docker_takes_is_launched,
    what_is_wrong_with_an_image_or_a_flavor_is_told_in_dockers_words_and_final,
}
