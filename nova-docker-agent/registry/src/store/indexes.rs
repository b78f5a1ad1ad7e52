//! What was read of images' files, each content once, whoever asks.
//!
//! moka bounds how many are kept. Readers of one content wait for each other at a `OnceCell`, not at moka's `try_get_with`,
//! which would give the failure of one to all: here each comes with rights of its own.

use std::sync::Arc;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::Error;

/// One content of one image: its id, its size, and Glance's hash of its file.
pub type Stamp = (Uuid, u64, String);

/// Indexes of images, by their content.
pub struct Indexes<T> {
    cells: Cache<Stamp, Arc<OnceCell<Arc<T>>>>,
    is_small: fn(&T) -> bool,
}

impl<T: Send + Sync + 'static> Indexes<T> {
    /// Keeps at most `number` of those that are small enough to be kept.
    pub fn new(number: u64, is_small: fn(&T) -> bool) -> Self {
        let cells = Cache::builder().max_capacity(number).eviction_policy(EvictionPolicy::lru()).build();
        Self { cells, is_small }
    }

    /// The index of this content, as it is kept, or read now. A failure is not kept.
    pub async fn get_or_read(
        &self,
        stamp: &Stamp,
        read: impl Future<Output = Result<Arc<T>, Error>>,
    ) -> Result<Arc<T>, Error> {
        let cell = self.cells.get_with_by_ref(stamp, Arc::default);
        let index = cell.get_or_try_init(|| read).await?;
        if !(self.is_small)(index) {
            self.cells.invalidate(stamp);
        }
        Ok(index.clone())
    }

    /// Whether this content was read already.
    pub fn has(&self, stamp: &Stamp) -> bool {
        self.cells.get(stamp).is_some_and(|cell| cell.initialized())
    }
}
