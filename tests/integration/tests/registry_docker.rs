//! dockerd pulls from the registry what `docker save` wrote.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::images::{self, Slow, Stored};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use nova_docker_agent::docker::{self as driver, Docker, DockerConfig};
use nova_docker_agent::registry::{Counters, Lease, Problem, PullReference, Registry, RegistryConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// Five layers, of which two are the same, byte for byte.
const DOCKERFILE: &str = r#"FROM busybox:test
RUN echo one > /one
RUN echo same > /same && touch -d @0 /same /
RUN rm /same && touch -d @0 /
RUN echo same > /same && touch -d @0 /same /
CMD ["cat", "/one"]
"#;
const OTHER: &str = r#"FROM busybox:test
RUN echo two > /two
CMD ["cat", "/two"]
"#;

async fn registry(dockerd: &Dockerd) -> Registry {
    let cache_directory = dockerd.path("cache");
    let config = RegistryConfig { listen: "127.0.0.1:0".parse().unwrap(), cache_directory, cache_size: 1 << 30 };
    Registry::start(config).await.unwrap()
}

async fn open(registry: &Registry, image: &Arc<Stored>) -> Lease {
    registry.open(&image.descriptor(), image.clone(), None).await.unwrap()
}

async fn run(dockerd: &Dockerd, lease: &Lease) -> String {
    dockerd.docker(&["run", "--rm", "--network=none", &lease.reference.name]).await
}

/// Waits until the cache holds `count` layers. Docker may have a layer before; without a lease it is not kept then.
async fn until_cached(dockerd: &Dockerd, count: u64) {
    let blobs = dockerd.path("cache/blobs-2/sha256");
    until("the layers are kept", async || std::fs::read_dir(&blobs).unwrap().count() as u64 == count).await;
}

fn gzip(content: Vec<u8>) -> Vec<u8> {
    compress("gzip", content)
}

fn compress(program: &str, content: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&content).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

fn an_image_of_either_layout_is_pulled_and_runs() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let registry = registry(&dockerd).await;
        images::build(&dockerd, "test:1", DOCKERFILE).await;
        let saved = images::save(&dockerd, "test:1").await;
        assert!(images::repeats_a_layer(&saved), "this Docker saves the last layer as another than the third");
        let layers = 4;
        let plain = images::to_oci(&saved, "application/vnd.oci.image.layer.v1.tar", |layer| layer);
        let compressed = images::to_oci(&saved, "application/vnd.oci.image.layer.v1.tar+gzip", gzip);
        // All have the first one's layers, byte for byte: the third has them unpacked.
        for (image, reads) in [(&saved, layers), (&plain, layers), (&compressed, layers)] {
            images::remove_all(&dockerd).await;
            let lease = open(&registry, image).await;
            driver.pull(&lease.reference).await.unwrap();
            assert_eq!(run(&dockerd, &lease).await, "one");
            assert_eq!(registry.counters().layer_reads, reads);
            assert!(lease.failure().is_none());
            until_cached(&dockerd, reads).await;
        }
    });
}

fn an_image_whose_layers_this_docker_cannot_unpack_is_pulled_and_runs() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let registry = registry(&dockerd).await;
        images::build(&dockerd, "test:1", DOCKERFILE).await;
        let saved = images::save(&dockerd, "test:1").await;
        let zstd = |layer| compress("zstd", layer);
        for layer_type in
            ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd"]
        {
            let image = images::to_oci(&saved, layer_type, zstd);
            images::remove_all(&dockerd).await;
            let lease = open(&registry, &image).await;
            driver.pull(&lease.reference).await.unwrap();
            assert_eq!(run(&dockerd, &lease).await, "one");
        }
        // The second one's are those of the first.
        assert_eq!(registry.counters().layer_reads, 4);
    });
}

fn a_second_image_costs_only_the_layers_that_are_its_own() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let registry = registry(&dockerd).await;
        images::build(&dockerd, "test:1", DOCKERFILE).await;
        images::build(&dockerd, "test:2", OTHER).await;
        let (one, two) = (images::save(&dockerd, "test:1").await, images::save(&dockerd, "test:2").await);
        images::remove_all(&dockerd).await;
        let mut before = Counters::default();
        for (image, output, reads) in [(&one, "one", 4), (&two, "two", 1)] {
            let lease = open(&registry, image).await;
            driver.pull(&lease.reference).await.unwrap();
            assert_eq!(run(&dockerd, &lease).await, output);
            let now = registry.counters();
            assert_eq!(now.layer_reads - before.layer_reads, reads);
            until_cached(&dockerd, now.layer_reads).await;
            before = now;
        }
        // Nor does Docker ask for them again once it has forgotten them.
        images::remove_all(&dockerd).await;
        let lease = open(&registry, &one).await;
        driver.pull(&lease.reference).await.unwrap();
        assert_eq!(registry.counters().layer_reads, before.layer_reads);
    });
}

fn a_pull_without_the_secret_or_of_an_image_that_was_closed_is_refused() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let registry = registry(&dockerd).await;
        // What is compressed is read when it is opened.
        let saved = images::plain(&images::save(&dockerd, IMAGE).await);
        let lease = open(&registry, &saved).await;
        let wrong = PullReference { secret: "wrong".into(), ..lease.reference.clone() };
        let error = driver.pull(&wrong).await.unwrap_err();
        assert!(matches!(error, driver::Error::ImageUnauthorised { .. }), "{error}");
        let reference = lease.reference.clone();
        drop(lease);
        let error = driver.pull(&reference).await.unwrap_err();
        assert!(matches!(error, driver::Error::NotFound { .. }), "{error}");
        assert_eq!(registry.counters().layer_reads, 0);
    });
}

fn a_corrupt_layer_fails_the_pull_soon_and_by_name() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let registry = registry(&dockerd).await;
        let saved = images::corrupt(&images::save(&dockerd, IMAGE).await);
        images::remove_all(&dockerd).await;
        let lease = open(&registry, &saved).await;
        let before = dockerd.log().len();
        let mut pull = std::pin::pin!(driver.pull(&lease.reference));
        let failure = tokio::select! {
            biased;
            failure = lease.failed() => failure,
            pulled = &mut pull => panic!("the pull ended before its failure was known: {pulled:?}"),
        };
        assert!(matches!(failure.problem(), Some(Problem::DigestMismatch { .. })), "{failure}");
        // Docker makes a few more attempts, and repeats what the registry says then. Containerd makes none.
        let error = pull.await.unwrap_err();
        if !dockerd.has_image_store().await {
            assert!(matches!(error, driver::Error::ImageUnacceptable { .. }), "{error}");
            assert!(error.to_string().contains("its content was altered"), "{error}");
        }
        let log = dockerd.log();
        let retries = log[before..].matches("Download failed, retrying").count();
        assert!(retries < 5, "as with a registry that is out of order: {log}");
    });
}

fn simultaneous_pulls_of_one_image_read_each_layer_once() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let registry = registry(&dockerd).await;
        images::build(&dockerd, "test:1", DOCKERFILE).await;
        let saved = images::save(&dockerd, "test:1").await;
        images::remove_all(&dockerd).await;
        let descriptor = saved.descriptor();
        let launches = (0..8).map(|_| async {
            let lease = registry.open(&descriptor, saved.clone(), None).await.unwrap();
            driver.pull(&lease.reference).await.unwrap();
        });
        futures::future::join_all(launches).await;
        assert_eq!(registry.counters().layer_reads, 4);
    });
}

/// A socket that leads to Docker's, and what is notified when Docker has said `words` through it.
fn overhear(dockerd: &Dockerd, words: &'static [u8]) -> (PathBuf, Arc<Notify>) {
    let (docker, socket) = (dockerd.socket(), dockerd.path("overheard.sock"));
    let listener = UnixListener::bind(&socket).unwrap();
    let said = Arc::new(Notify::new());
    let notify = said.clone();
    tokio::spawn(async move {
        loop {
            let (client, docker) = (listener.accept().await.unwrap().0, UnixStream::connect(&docker).await.unwrap());
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_docker, mut to_docker) = docker.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_docker).await });
            let notify = notify.clone();
            tokio::spawn(async move {
                let (mut heard, mut passed) = (vec![], 0);
                while from_docker.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
                    if heard.windows(words.len()).any(|window| window == words) {
                        notify.notify_one();
                    }
                    if to_client.write_all(&heard[passed..]).await.is_err() {
                        return;
                    }
                    passed = heard.len();
                }
            });
        }
    });
    (socket, said)
}

/// Docker lets the second pull wait for the first one's transfer, since the digest is the same, and fails both.
fn a_pull_that_waited_for_a_bad_images_layer_succeeds_when_it_is_tried_again() {
    on_host(async |host| {
        let dockerd = host.docker().await;
        let driver = dockerd.driver().await;
        let (socket, pulling) = overhear(&dockerd, b"Pulling fs layer");
        let config = DockerConfig { host_url: format!("unix://{}", socket.display()), ..dockerd.driver_config() };
        let overheard = Docker::connect(config).await.unwrap();
        let registry = registry(&dockerd).await;
        let good = images::save(&dockerd, IMAGE).await;
        let bad = images::corrupt(&good);
        images::remove_all(&dockerd).await;
        let gate = Arc::new(Semaphore::new(1));
        let slow = Arc::new(Slow(bad.clone(), gate.clone()));
        let bad_lease = registry.open(&bad.descriptor(), slow, None).await.unwrap();
        let good_lease = open(&registry, &good).await;
        let index = gate.acquire().await.unwrap();
        let second = async {
            until("the first pull asks for the layer", async || registry.counters().misses > 0).await;
            let pull = overheard.pull(&good_lease.reference);
            let release = async {
                // The last that Docker says before it lets the second pull wait for the transfer of the first.
                timeout(PATIENCE, pulling.notified()).await.expect("Docker pulls the layer");
                drop(index);
            };
            tokio::join!(pull, release).0
        };
        let (first, second) = tokio::join!(driver.pull(&bad_lease.reference), second);
        assert!(good_lease.failure().is_none());
        // Containerd tries the transfer again for the second, and then the first has the layer, too.
        if !dockerd.has_image_store().await {
            assert!(bad_lease.failure().is_some() && first.is_err() && second.is_err());
        }
        driver.pull(&good_lease.reference).await.unwrap();
    });
}

tests! {
    an_image_of_either_layout_is_pulled_and_runs,
    an_image_whose_layers_this_docker_cannot_unpack_is_pulled_and_runs,
    a_second_image_costs_only_the_layers_that_are_its_own,
    a_pull_without_the_secret_or_of_an_image_that_was_closed_is_refused,
    a_corrupt_layer_fails_the_pull_soon_and_by_name,
    simultaneous_pulls_of_one_image_read_each_layer_once,
    a_pull_that_waited_for_a_bad_images_layer_succeeds_when_it_is_tried_again,
}
