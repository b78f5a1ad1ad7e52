//! The registry as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::NAMESPACE;
use super::api::{self, Service};
use super::lease::{Lease, Leases, PullReference};
use crate::archive::image::{Image, Layer};
use crate::archive::layout;
use crate::http::auth::{Secret, USERNAME};
use crate::http::listener::{self, Limits};
use crate::store::{Cache, Fetcher, Indexes, Pins, Sharing, Stored};
use crate::{Counters, Error, ImageDescriptor, Platform, Problem, Source};

/// Indexes that are kept in memory, and how many bytes the documents of each may have. Most have a few kilobytes.
const MAX_INDEXES: u64 = 64;
const MAX_DOCUMENTS: usize = 256 * 1024;
/// The number of those who read an image that is not open yet.
const NO_LEASE: u64 = u64::MAX;

/// How to run a [`Registry`].
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where layers are kept; made if it does not exist.
    pub cache_directory: PathBuf,
    /// How many bytes of layers are kept. Layers of open images are kept whatever their size.
    pub cache_size: u64,
}

/// A running registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// An image that is to be opened, as messages call it, and how many bytes of the disk that it is for it may have.
struct Wanted<'a> {
    descriptor: &'a ImageDescriptor,
    source: &'a Arc<dyn Source>,
    label: &'a str,
    disk: Option<u64>,
}

struct Shared {
    service: Arc<Service>,
    indexes: Indexes<Image>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Registry {
    /// Opens the cache, listens and serves.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::Listen`] and [`Error::Cache`].
    pub async fn start(config: RegistryConfig) -> Result<Self, Error> {
        let address = config.listen;
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback { address });
        }
        let open = move || Ok(Fetcher::new(Cache::open(&config.cache_directory, config.cache_size)?));
        let fetcher = tokio::task::spawn_blocking(open).await.unwrap_or(Err(Error::ShuttingDown))?;
        let listen = async {
            let listener = TcpListener::bind(address).await?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) =
            listen.await.map_err(|cause: std::io::Error| Error::Listen { address, cause: Arc::new(cause) })?;
        let service = Arc::new(Service { secret: Secret::generate(), leases: Arc::new(Leases::default()), fetcher });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(listener::serve(listener, None, Limits::default(), api::router(service.clone()), stop.clone()));
        let indexes = Indexes::new(MAX_INDEXES, |image: &Image| image.documents() <= MAX_DOCUMENTS);
        Ok(Self { address, shared: Arc::new(Shared { service, indexes, stop, tasks }) })
    }

    /// Reads the index of an image through `source`, and opens the image to dockerd until the lease is dropped. It must not fill the
    /// `disk` that it is for, of so many bytes.
    ///
    /// # Errors
    /// [`Error::BadImage`] when the image is not usable on this host, or there, [`Error::Source`] when it could not be read.
    pub async fn open(
        &self,
        descriptor: &ImageDescriptor,
        source: Arc<dyn Source>,
        disk: Option<u64>,
    ) -> Result<Lease, Error> {
        let label = descriptor.label();
        if self.shared.stop.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        if descriptor.container_format != "docker" {
            let problem = Problem::ContainerFormat { found: descriptor.container_format.clone() };
            return Err(Error::BadImage { image: label, problem });
        }
        let (image, spooled) = self.shared.image(&Wanted { descriptor, source: &source, label: &label, disk }).await?;
        check_size(&image, disk).map_err(|problem| Error::from(problem).of(&label))?;
        let Service { secret, leases, fetcher } = &*self.shared.service;
        let pins = fetcher.cache.pin(image.digests());
        drop(spooled);
        let reference = PullReference {
            name: format!("{}/{NAMESPACE}/{}@{}", self.address, descriptor.id, image.manifest.digest),
            username: USERNAME.into(),
            secret: secret.value(),
        };
        Ok(leases.open((descriptor.id, label), image, source, pins, reference))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.shared.service.fetcher.counters()
    }

    /// Stops taking requests, waits for those under way, but not for long, and gives up reads from the image service.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.service.fetcher.shutdown().await;
    }
}

impl Shared {
    /// The index of an image: the one that is kept, when the content is the same, or read now. The pins keep what was put into
    /// the cache on the way.
    async fn image(&self, wanted: &Wanted<'_>) -> Result<(Arc<Image>, Pins), Error> {
        let Wanted { descriptor, source, label, .. } = wanted;
        let Some(hash) = &descriptor.content_hash else { return self.read(wanted).await };
        let stamp = (descriptor.id, descriptor.size, hash.clone());
        let mut fresh = None;
        let read = async {
            let (image, spooled) = self.read(wanted).await?;
            fresh = Some(spooled);
            Ok(image)
        };
        let image = self.indexes.get_or_read(&stamp, read).await?;
        if let Some(spooled) = fresh {
            return Ok((image, spooled));
        }
        let cache = &self.service.fetcher.cache;
        let pins = cache.pin(image.digests());
        if image.sequential && !image.digests().all(|digest| cache.get(&digest).is_some()) {
            // One pass through the file, rather than one for each layer.
            return self.read(wanted).await;
        }
        source.check_access(label).await?;
        Ok((image, pins))
    }

    async fn read(&self, wanted: &Wanted<'_>) -> Result<(Arc<Image>, Pins), Error> {
        let Wanted { descriptor, source, label, .. } = wanted;
        let fetcher = &self.service.fetcher;
        fetcher.tally.lock().indexes += 1;
        let read = layout::read_image((*source).clone(), descriptor.size, &fetcher.cache, &Platform::host()).await;
        let (mut image, mut pins) = read.map_err(|failure| failure.of(label))?;
        fetcher.tally.lock().index_reads += image.reads;
        self.unpack(&mut image, &mut pins, wanted).await.map_err(|error| error.of(label))?;
        Ok((Arc::new(image), pins))
    }

    /// Unpacks the layers that Docker could not, into the cache: only then is it known how large they are. No more than fits on
    /// the disk that the image is for.
    async fn unpack(&self, image: &mut Image, pins: &mut Pins, wanted: &Wanted<'_>) -> Result<(), Error> {
        let Wanted { descriptor, source, label, disk } = *wanted;
        let packed: Vec<Layer> = image.layers.iter().filter(|layer| layer.packing.is_some()).cloned().collect();
        if packed.is_empty() {
            return Ok(());
        }
        check_size(image, disk)?;
        packed.iter().for_each(|layer| pins.add(layer.digest));
        for Layer { digest, range, packing, .. } in packed {
            let (label, source, sharing) = (label.to_owned(), source.clone(), Sharing::Host);
            let stored = Stored { image: descriptor.id, lease: NO_LEASE, label, source, range, packing, sharing };
            // It may be there twice, once with a size of its own.
            image.set_size(&digest, 0);
            let room = disk.map_or(u64::MAX, |disk| disk.saturating_sub(image.unpacked()));
            let size = self.service.fetcher.size(digest, &stored, room).await?;
            image.set_size(&digest, size);
            check_size(image, disk)?;
        }
        Ok(image.rebuild_manifest()?)
    }
}

/// Whether an image has room on a disk.
fn check_size(image: &Image, disk: Option<u64>) -> Result<(), Problem> {
    match disk {
        Some(disk) if image.unpacked() > disk => Err(Problem::LargerThanDisk { disk, image: image.unpacked() }),
        _ => Ok(()),
    }
}
