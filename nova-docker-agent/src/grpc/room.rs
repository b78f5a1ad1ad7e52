//! How many calls are worked on at a time. What is answered in a stream goes on after the answer has begun, so it takes room of its own.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::limit::GlobalConcurrencyLimitLayer;

/// Room for so many calls, half of which at most may be long ones: creations, replacements, snapshots.
#[derive(Clone)]
pub(super) struct Room {
    calls: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self { calls: Arc::new(Semaphore::new(limit)), long: Arc::new(Semaphore::new((limit / 2).max(1))) }
    }

    /// Has each call wait for room until it is answered.
    pub(super) fn layer(&self) -> GlobalConcurrencyLimitLayer {
        GlobalConcurrencyLimitLayer::with_semaphore(self.calls.clone())
    }

    /// Waits for room for a long call, for as long as what is returned lives. It is entered before any guest's turn, so that nobody
    /// who has a turn waits for room.
    pub(super) async fn enter(&self) -> [Option<OwnedSemaphorePermit>; 2] {
        // They are never closed.
        let long = self.long.clone().acquire_owned().await.ok();
        [long, self.calls.clone().acquire_owned().await.ok()]
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn long_calls_leave_half_of_the_room_to_others() {
        let room = Room::new(4);
        let first = room.enter().now_or_never();
        let second = room.enter().now_or_never();
        assert!(first.is_some() && second.is_some());
        assert!(room.enter().now_or_never().is_none(), "a third long one");
        assert_eq!(room.calls.available_permits(), 2);
        drop(first);
        assert!(room.enter().now_or_never().is_some());
    }

    #[test]
    fn with_room_for_one_a_long_call_has_it_alone() {
        let room = Room::new(1);
        let long = room.enter().now_or_never();
        assert!(long.is_some());
        assert_eq!(room.calls.available_permits(), 0);
    }
}
