//! A real Docker that pulls from our own registry.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ImageSummary;
use bollard::query_parameters::ListImagesOptionsBuilder;
use futures::StreamExt;
use futures::future::BoxFuture;
use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::guest;
use integration_tests::on_host;
use nova_docker_agent::docker::{Error, UnusedImage, name_in_registry};
use nova_docker_agent::registry::{
    ImageDescriptor, Lease, PullReference, Registry, RegistryConfig, Source, SourceBody, SourceError,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// An image file in memory.
struct Stored(Vec<u8>);

impl Source for Stored {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        let ranged = range.is_some();
        let range = range.unwrap_or(0..self.0.len() as u64);
        let end = (range.end as usize).min(self.0.len());
        let chunks: Vec<_> =
            self.0[range.start as usize..end].chunks(65_536).map(|chunk| Ok(chunk.to_vec().into())).collect();
        Box::pin(async move { Ok(SourceBody { ranged, stream: futures::stream::iter(chunks).boxed() }) })
    }
}

async fn registry(directory: &Path) -> Registry {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = RegistryConfig { listen, cache_directory: directory.join("cache"), cache_size: 1 << 30 };
    Registry::start(config).await.unwrap()
}

/// Opens the test image as Glance would have it.
async fn open(docker: &Dockerd, registry: &Registry, id: Uuid) -> Lease {
    let file = docker.path("image.tar");
    docker.docker(&["save", "-o", file.to_str().unwrap(), IMAGE]).await;
    lease_of(registry, id, std::fs::read(file).unwrap()).await
}

async fn lease_of(registry: &Registry, id: Uuid, stored: Vec<u8>) -> Lease {
    let image = ImageDescriptor {
        id,
        name: Some("test".to_owned()),
        size: stored.len() as u64,
        container_format: "docker".to_owned(),
        disk_format: "raw".to_owned(),
        content_hash: None,
    };
    registry.open(&image, Arc::new(Stored(stored)), None).await.unwrap()
}

/// References of all images but the test image's own; the ID of an image without.
async fn references(docker: &Dockerd) -> BTreeSet<String> {
    let options = ListImagesOptionsBuilder::default().all(true).digests(true).build();
    let images = docker.client().list_images(Some(options)).await.unwrap();
    let names = |image: ImageSummary| {
        let is_imported = image.repo_tags.iter().any(|tag| tag == IMAGE);
        // The containerd image store tells a digest as a tag, too.
        let mut names: Vec<_> =
            image.repo_digests.into_iter().chain(image.repo_tags).filter(|name| name.contains('/')).collect();
        if names.is_empty() && !is_imported {
            names.push(image.id);
        }
        names
    };
    images.into_iter().flat_map(names).collect()
}

fn an_image_is_pulled_by_digest_used_kept_as_a_cache_and_removed() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let registry = registry(&docker.path("")).await;
        let lease = open(&docker, &registry, Uuid::new_v4()).await;
        let name = lease.reference.name.clone();
        driver.pull(&lease.reference).await.unwrap();
        driver.pull(&lease.reference).await.unwrap();

        let guest = guest("sleep 1000");
        driver.create(&guest, &name, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        driver.started_well(guest.uuid, Duration::from_secs(1)).await.unwrap();
        drop(lease);
        assert!(driver.unused_images().await.unwrap().is_empty(), "an image in use is called unused");

        driver.remove(guest.uuid).await.unwrap();
        let unused = driver.unused_images().await.unwrap();
        assert_eq!(unused.iter().map(UnusedImage::name).collect::<Vec<_>>(), [name_in_registry(&name).unwrap()]);
        assert!(driver.remove_image(&unused[0]).await.unwrap());
        assert!(!driver.remove_image(&unused[0]).await.unwrap(), "it has gone");
        assert!(references(&docker).await.is_empty(), "{:?}", references(&docker).await);
        assert!(docker.docker(&["images", "-q", IMAGE]).await.len() > 1, "a foreign image was removed");
    });
}

/// The containerd image store has the test image's files from its import, compressed; the registry serves them unpacked.
fn an_image_whose_files_docker_has_otherwise_is_whole_and_so_is_a_snapshot_of_its_server() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let registry = registry(&docker.path("")).await;
        let lease = open(&docker, &registry, Uuid::new_v4()).await;
        driver.pull(&lease.reference).await.unwrap();
        let name = lease.reference.name.as_str();
        assert_eq!(references(&docker).await, [name.to_owned()].into(), "it is listed under its name alone");
        let first = guest("sleep 1000");
        driver.create(&first, name, &[]).await.unwrap();
        driver.start(first.uuid).await.unwrap();
        docker.inside(&first.uuid.to_string(), "echo kept >/mark").await;

        let snapshot = driver.snapshot(first.uuid).await.unwrap();
        let mut archive = vec![];
        let mut pieces = std::pin::pin!(snapshot.stream());
        while let Some(piece) = pieces.next().await {
            archive.extend_from_slice(&piece.unwrap());
        }
        let of_snapshot = lease_of(&registry, Uuid::new_v4(), archive).await;
        // Docker has the files of what was committed, too. Two launches at once.
        let pulled = tokio::join!(driver.pull(&of_snapshot.reference), driver.pull(&of_snapshot.reference));
        pulled.0.and(pulled.1).unwrap();
        let second = guest("sleep 1000");
        driver.create(&second, &of_snapshot.reference.name, &[]).await.unwrap();
        driver.start(second.uuid).await.unwrap();
        assert_eq!(docker.inside(&second.uuid.to_string(), "cat /mark").await, (true, "kept\n".to_owned()));
        snapshot.finish().await.unwrap();

        for uuid in [first.uuid, second.uuid] {
            driver.remove(uuid).await.unwrap();
        }
        let unused = driver.unused_images().await.unwrap();
        assert_eq!(unused.len(), 2, "{unused:?}");
        for image in &unused {
            assert!(driver.remove_image(image).await.unwrap());
        }
        assert!(references(&docker).await.is_empty(), "{:?}", references(&docker).await);
    });
}

fn the_same_image_from_a_registry_that_was_restarted_is_one_image() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let id = Uuid::new_v4();
        for run in ["one", "two"] {
            let registry = registry(&docker.path(run)).await;
            let lease = open(&docker, &registry, id).await;
            driver.pull(&lease.reference).await.unwrap();
        }
        assert_eq!(references(&docker).await.len(), 2);
        let unused = driver.unused_images().await.unwrap();
        assert_eq!((unused.len(), unused[0].name()), (2, unused[1].name()));
        for image in &unused {
            assert!(driver.remove_image(image).await.unwrap());
        }
        assert!(references(&docker).await.is_empty());
    });
}

fn a_wrong_secret_is_told_from_a_missing_image() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let registry = registry(&docker.path("")).await;
        let lease = open(&docker, &registry, Uuid::new_v4()).await;
        let wrong = PullReference { secret: "wrong".to_owned().into(), ..lease.reference.clone() };
        let error = driver.pull(&wrong).await.unwrap_err();
        assert!(matches!(error, Error::ImageUnauthorised { .. }), "{error}");
        let (path, _) = lease.reference.name.split_once('@').unwrap();
        let absent = PullReference { name: format!("{path}@sha256:{}", "0".repeat(64)), ..lease.reference.clone() };
        let error = driver.pull(&absent).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(references(&docker).await.is_empty(), "a failed pull leaves something");
    });
}

/// Has the containerd image store load the test image under a name with a digest, as the agent does.
async fn load_as(docker: &Dockerd, repository: &str) -> String {
    let (saved, named) = (docker.path("saved.tar"), docker.path("named.tar"));
    docker.docker(&["save", "-o", saved.to_str().unwrap(), IMAGE]).await;
    let mut archive = tar::Archive::new(std::fs::File::open(saved).unwrap());
    let mut writer = tar::Builder::new(std::fs::File::create(&named).unwrap());
    let mut name = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, mut content) = (entry.header().clone(), vec![]);
        entry.read_to_end(&mut content).unwrap();
        match entry.path_bytes().as_ref() {
            // A loader goes by it where it is there.
            b"manifest.json" => continue,
            b"index.json" => {
                let mut index: Value = serde_json::from_slice(&content).unwrap();
                name = format!("{repository}@{}", index["manifests"][0]["digest"].as_str().unwrap());
                index["manifests"][0]["annotations"] = json!({"io.containerd.image.name": name});
                content = index.to_string().into_bytes();
            }
            _ => {}
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        writer.append(&header, &*content).unwrap();
    }
    writer.finish().unwrap();
    docker.docker(&["load", "-i", named.to_str().unwrap()]).await;
    name
}

fn the_name_of_an_image_that_was_loaded_when_the_agent_ended_goes_at_the_next_start_and_no_other() {
    on_host(async |host| {
        let docker = host.docker().await;
        let kept = "127.0.0.1:5000/glance/kept:1";
        docker.docker(&["tag", IMAGE, kept]).await;
        let mut left = vec![];
        // No other store loads an image by such a name, nor does the agent ask it to.
        if docker.has_image_store().await {
            left.push(load_as(&docker, &format!("127.0.0.1:5000/glance/{}/loaded", Uuid::new_v4())).await);
            assert!(references(&docker).await.contains(&left[0]), "{left:?}");
        }
        docker.driver().await;
        let references = references(&docker).await;
        assert!(references.contains(kept) && !left.iter().any(|name| references.contains(name)), "{references:?}");
        assert!(docker.docker(&["images", "-q", IMAGE]).await.len() > 1, "a foreign image was removed");
    });
}

tests! {
    an_image_is_pulled_by_digest_used_kept_as_a_cache_and_removed,
    an_image_whose_files_docker_has_otherwise_is_whole_and_so_is_a_snapshot_of_its_server,
    the_same_image_from_a_registry_that_was_restarted_is_one_image,
    a_wrong_secret_is_told_from_a_missing_image,
    the_name_of_an_image_that_was_loaded_when_the_agent_ended_goes_at_the_next_start_and_no_other,
}
