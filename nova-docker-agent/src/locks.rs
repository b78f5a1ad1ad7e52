//! One operation at a time on an instance, or on an image.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// Locks by the uuid of an instance, or of an image in Glance, made when first asked for and forgotten with their last holder.
#[derive(Debug, Default)]
pub struct InstanceLocks {
    locks: Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>,
}

impl InstanceLocks {
    /// Waits for the operation under way on `instance`, if any, and keeps others out until the guard is dropped.
    pub async fn lock(&self, instance: Uuid) -> OwnedMutexGuard<()> {
        self.entry(instance).lock_owned().await
    }

    /// The lock, if nobody holds it now.
    pub fn try_lock(&self, instance: Uuid) -> Option<OwnedMutexGuard<()>> {
        self.entry(instance).try_lock_owned().ok()
    }

    /// Whether an operation holds the lock of `instance` right now.
    pub fn is_busy(&self, instance: Uuid) -> bool {
        self.entry(instance).try_lock().is_err()
    }

    fn entry(&self, instance: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&instance).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(instance, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_operation_waits_for_the_first_and_other_instances_do_not() {
        let locks = Arc::new(InstanceLocks::default());
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        let first = locks.lock(one).await;
        assert!(locks.is_busy(one));
        let _unrelated = locks.lock(other).await;
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { drop(locks.lock(one).await) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
        assert!(!locks.is_busy(one));
    }

    #[tokio::test]
    async fn locks_without_a_holder_are_forgotten() {
        let locks = InstanceLocks::default();
        for _ in 0..100 {
            drop(locks.lock(Uuid::new_v4()).await);
        }
        let _held = locks.lock(Uuid::new_v4()).await;
        assert_eq!(locks.locks.lock().unwrap().len(), 1);
    }
}
