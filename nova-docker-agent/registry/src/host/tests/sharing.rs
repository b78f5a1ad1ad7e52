//! Reads of layers that are shared: by clients, by images, over a restart.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::testing::Ranges;

const MIB: usize = 1024 * 1024;
/// Far more than any step takes; only a failure waits so long.
const LONG: Duration = Duration::from_secs(120);

/// A source whose layers wait for permits, one for each 16 KiB; the index does not.
fn gated(archive: bytes::Bytes) -> (Arc<Memory>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    (Arc::new(Memory { gate: Some((1, gate.clone())), ..Memory::new(archive) }), gate)
}

/// Waits for an event of the registry that shows in its counters or on the disk only.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn fifty_clients_of_one_layer_are_one_read() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    // Small enough that the index is one window.
    let layer = testing::layer(1, 100_000);
    let (source, gate) = gated(testing::legacy(std::slice::from_ref(&layer)));
    let lease = Arc::new(open(&registry, &source).await);
    let digest = Digest::of(&layer);
    let before = source.reads();
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let lease = lease.clone();
            tokio::spawn(async move { blob(&lease, digest).await.body })
        })
        .collect();
    until("all clients wait", || registry.counters().misses + registry.counters().joins == 50).await;
    gate.add_permits(1000);
    for client in clients {
        assert!(client.await.unwrap() == layer);
    }
    assert_eq!(source.reads() - before, 1);
    let counters = registry.counters();
    assert_eq!((counters.misses, counters.joins, counters.layer_reads), (1, 49, 1));
    assert_eq!((counters.layer_bytes, counters.served_bytes), (100_000, 5_000_000));
}

#[tokio::test]
async fn simultaneous_launches_of_one_image_read_its_index_once() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let source = Arc::new(Memory::new(testing::legacy(&[testing::layer(1, 100)])));
    let descriptor = source.descriptor();
    let opened = futures::future::join_all((0..20).map(|_| registry.open(&descriptor, source.clone(), None))).await;
    assert!(opened.iter().all(Result::is_ok));
    assert_eq!(registry.counters().indexes, 1);
    // A known index opens no image to somebody who may not read it.
    let stranger = Arc::new(Memory { forbidden: true, ..Memory::new(source.content.clone()) });
    assert!(matches!(registry.open(&descriptor, stranger, None).await, Err(Error::Source { .. })));
}

#[tokio::test]
async fn a_layer_streams_through_but_for_its_end_while_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 96 * 1024);
    let (source, gate) = gated(testing::legacy(std::slice::from_ref(&layer)));
    let lease = open(&registry, &source).await;
    let (address, name) = place(&lease);
    let path = format!("{name}/blobs/{}", Digest::of(&layer));
    let mut stream = send(address, "GET", &path, &[authorization(&lease)]).await;
    gate.add_permits(2);
    let mut first = vec![];
    while first.len() < 32 * 1024 {
        assert!(timeout(LONG, stream.read_buf(&mut first)).await.unwrap().unwrap() > 0);
    }
    gate.add_permits(1000);
    stream.read_to_end(&mut first).await.unwrap();
    assert!(first.ends_with(&layer));
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_end_the_read() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 100_000);
    let (source, gate) = gated(testing::legacy(std::slice::from_ref(&layer)));
    let lease = open(&registry, &source).await;
    let (address, name) = place(&lease);
    let stream = send(address, "GET", &format!("{name}/blobs/{}", Digest::of(&layer)), &[authorization(&lease)]).await;
    until("the read has begun", || registry.counters().misses == 1).await;
    drop(stream);
    gate.add_permits(1000);
    until("the layer was kept", || kept(directory.path()) == 1 && registry.counters().layer_bytes == 100_000).await;
    assert!(blob(&lease, Digest::of(&layer)).await.body == layer);
    assert_eq!(registry.counters().layer_reads, 1);
}

#[tokio::test]
async fn a_read_ends_when_no_open_image_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 100_000);
    let (source, gate) = gated(testing::legacy(std::slice::from_ref(&layer)));
    let lease = open(&registry, &source).await;
    let (address, name) = place(&lease);
    let stream = send(address, "GET", &format!("{name}/blobs/{}", Digest::of(&layer)), &[authorization(&lease)]).await;
    gate.add_permits(1);
    until("the read has begun", || registry.counters().layer_bytes > 0 && kept(directory.path()) == 1).await;
    drop((lease, stream));
    until("the half layer was removed", || kept(directory.path()) == 0).await;
}

#[tokio::test]
async fn a_stop_gives_up_reads_and_leaves_nothing_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 100_000);
    let (source, gate) = gated(testing::legacy(std::slice::from_ref(&layer)));
    let lease = open(&registry, &source).await;
    let (address, name) = place(&lease);
    let stream = send(address, "GET", &format!("{name}/blobs/{}", Digest::of(&layer)), &[authorization(&lease)]).await;
    gate.add_permits(1);
    until("the read has begun", || registry.counters().layer_bytes > 0 && kept(directory.path()) == 1).await;
    drop(stream);
    timeout(LONG, registry.shutdown()).await.unwrap();
    until("the half layer was removed", || kept(directory.path()) == 0).await;
    assert!(lease.failure().is_none());
}

#[tokio::test]
async fn layers_are_kept_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let layers = [testing::layer(1, MIB), testing::layer(2, 100)];
    let source = Arc::new(Memory::new(testing::legacy(&layers)));
    for (layer_reads, hits) in [(2, 0), (0, 2)] {
        let registry = start(directory.path()).await;
        let lease = open(&registry, &source).await;
        for layer in &layers {
            assert!(blob(&lease, Digest::of(layer)).await.body == *layer);
        }
        until("the layers were kept", || whole(directory.path()) == 2).await;
        assert_eq!((registry.counters().layer_reads, registry.counters().hits), (layer_reads, hits));
        registry.shutdown().await;
    }
}

#[tokio::test]
async fn layers_of_closed_images_make_room_and_those_of_open_ones_stay() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start_with(directory.path(), 150_000).await;
    let layers = [testing::layer(1, 100_000), testing::layer(2, 100_000), testing::layer(3, 100_000)];
    let mut leases = vec![];
    for layer in &layers {
        let lease = open(&registry, &Arc::new(Memory::new(testing::legacy(std::slice::from_ref(layer))))).await;
        assert_eq!(blob(&lease, Digest::of(layer)).await.body.len(), 100_000);
        leases.push(lease);
    }
    until("all were kept", || whole(directory.path()) == 3).await;
    drop(leases.remove(0));
    until("one was evicted", || kept(directory.path()) == 2).await;
    drop(leases.remove(0));
    until("another was evicted", || kept(directory.path()) == 1).await;
    drop(leases);
    assert_eq!((kept(directory.path()), registry.counters().evictions), (1, 2));
}

#[tokio::test]
async fn a_layer_that_two_images_share_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let (base, one, two) = (testing::layer(1, 50_000), testing::layer(2, 10), testing::layer(3, 10));
    let first = open(&registry, &Arc::new(Memory::new(testing::legacy(&[base.clone(), one])))).await;
    let second = open(&registry, &Arc::new(Memory::new(testing::oci(&[base.clone(), two])))).await;
    for lease in [&first, &second] {
        assert!(blob(lease, Digest::of(&base)).await.body == base);
    }
    assert_eq!(registry.counters().layer_reads, 1);
}

#[tokio::test]
async fn a_bad_image_does_not_spoil_a_layer_of_a_good_one() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let (good, bad) = (testing::layer(1, 100_000), testing::layer(2, 100_000));
    let config = testing::config(std::slice::from_ref(&good));
    let (source, gate) = gated(testing::legacy_with(std::slice::from_ref(&bad), &config));
    let attacker = Arc::new(open(&registry, &source).await);
    let victim = open(&registry, &Arc::new(Memory::new(testing::oci(std::slice::from_ref(&good))))).await;
    let digest = Digest::of(&good);
    let first = attacker.clone();
    let attack = tokio::spawn(async move { blob(&first, digest).await });
    until("the bad layer is being read", || registry.counters().misses == 1).await;
    let pull = async {
        until("the good image waits for it", || registry.counters().joins == 1).await;
        gate.add_permits(1000);
    };
    let (answer, ()) = tokio::join!(blob(&victim, digest), pull);
    assert!(answer.body == good);
    assert!(victim.failure().is_none());
    attack.await.unwrap();
    assert!(attacker.failure().unwrap().is_bad_image());
}

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, MIB);
    let memory = Memory { break_after: 400_000, ..Memory::new(testing::legacy(std::slice::from_ref(&layer))) };
    let source = Arc::new(memory);
    let lease = open(&registry, &source).await;
    source.breaks.store(1, Ordering::SeqCst);
    assert!(blob(&lease, Digest::of(&layer)).await.body == layer);
    assert_eq!((registry.counters().layer_reads, registry.counters().layer_bytes), (2, MIB as u64));
    assert!(lease.failure().is_none());
}

#[tokio::test]
async fn an_image_service_that_stays_away_fails_the_pull_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, MIB);
    let source = Arc::new(Memory::new(testing::legacy(std::slice::from_ref(&layer))));
    let lease = open(&registry, &source).await;
    source.breaks.store(1000, Ordering::SeqCst);
    assert_eq!(blob(&lease, Digest::of(&layer)).await.code(), "UNAVAILABLE");
    let error = lease.failed().await;
    assert!(!error.is_bad_image() && error.to_string().contains("connection reset"), "{error}");
    source.breaks.store(0, Ordering::SeqCst);
    assert!(blob(&lease, Digest::of(&layer)).await.body == layer);
}

#[tokio::test]
async fn credentials_that_no_longer_hold_are_replaced_by_those_of_another_lease() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 1000);
    let archive = testing::legacy(std::slice::from_ref(&layer));
    let source = Arc::new(Memory::new(archive.clone()));
    let descriptor = source.descriptor();
    let lease = registry.open(&descriptor, source, None).await.unwrap();
    // The newest lease is asked first; its reads fail once it is open.
    let newest = Arc::new(Memory { ranges: Ranges::Ignored, ..Memory::new(archive) });
    let expired = registry.open(&descriptor, newest.clone(), None).await.unwrap();
    newest.breaks.store(1000, Ordering::SeqCst);
    assert!(blob(&lease, Digest::of(&layer)).await.body == layer);
    assert!(lease.failure().is_none() && expired.failure().is_none());
}

#[tokio::test]
async fn a_store_without_ranges_is_read_once_for_index_and_layers() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layers = [testing::layer(1, MIB), testing::layer(2, 5)];
    let source = Arc::new(Memory::new(testing::legacy(&layers)).with_ranges(Ranges::Ignored));
    let lease = open(&registry, &source).await;
    for layer in &layers {
        assert!(blob(&lease, Digest::of(layer)).await.body == *layer);
    }
    assert_eq!((source.reads(), registry.counters().layer_reads), (1, 0));
}
