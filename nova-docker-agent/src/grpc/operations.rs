//! How calls of the service work on guests: one change at a time for each, to its end, in a task of its own.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures::{FutureExt as _, SinkExt as _, Stream, StreamExt as _, channel::mpsc, stream};
use tokio::sync::OwnedMutexGuard;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::{Code, Response, Status, metadata::MetadataMap};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::{
    request,
    room::Room,
    status::{self, failure, stopping},
};
use crate::driver::{Driver, Error};
use crate::locks::InstanceLocks;

/// Messages of progress that may wait for a slow caller.
const PROGRESS: usize = 8;

/// Work on a guest, alone, as long as this lives.
pub(super) type Turn = OwnedMutexGuard<()>;

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Work outlives the call that asked for it: a caller that goes away in the middle leaves nothing half-done.
pub(super) struct Operations {
    pub driver: Arc<Driver>,
    /// Of the guests that an operation is under way on.
    pub locks: Arc<InstanceLocks>,
    pub room: Room,
    pub tasks: TaskTracker,
    /// Stop waiting for running work.
    pub given_up: CancellationToken,
}

impl Operations {
    /// Runs a change of one guest, alone, to its end.
    pub(super) async fn change<T, W>(
        &self,
        name: &'static str,
        metadata: &MetadataMap,
        guest: Uuid,
        work: impl FnOnce(Arc<Driver>) -> W + Send + 'static,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send,
    {
        let locks = self.locks.clone();
        self.change_in_turn(name, metadata, guest, async move { locks.lock(guest).await }, work).await
    }

    /// As [`change`](Self::change), of what may take long: it takes its room when its turn has come, as room::LONG says. A caller that
    /// goes away before that has nothing done.
    pub(super) async fn long_change<T, W>(
        &self,
        name: &'static str,
        metadata: &MetadataMap,
        guest: Uuid,
        work: impl FnOnce(Arc<Driver>) -> W + Send + 'static,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send,
    {
        // Until then nothing has begun, so that it ends with the call. A stop of the service waits for it.
        let _waiting = self.tasks.token();
        let entered = tokio::select! {
            () = self.given_up.cancelled() => return Err(stopping()),
            entered = self.room.enter(&self.locks, guest) => entered,
        };
        self.change_in_turn(name, metadata, guest, std::future::ready(entered), work).await
    }

    async fn change_in_turn<T, W, K>(
        &self,
        name: &'static str,
        metadata: &MetadataMap,
        guest: Uuid,
        turn: impl Future<Output = K> + Send + 'static,
        work: impl FnOnce(Arc<Driver>) -> W + Send + 'static,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        K: Send,
        W: Future<Output = Result<T, Error>> + Send,
    {
        let span = info_span!("operation", name, instance = %guest, request_id = request::request_id(metadata));
        let driver = self.driver.clone();
        let task = async move {
            let _turn = turn.await;
            info!("started");
            let result = work(driver).await.map_err(|error| failure(&error, guest, None));
            report(&result);
            result
        };
        let task = self.tasks.spawn(task.instrument(span));
        task.await.map_err(|error| if error.is_panic() { status::panicked() } else { stopping() })?
    }

    /// Runs long work on one guest, alone for as long as it keeps its turn, and streams its progress; ends it when nobody listens any
    /// more.
    pub(super) fn stream<T, W>(
        &self,
        name: &'static str,
        request_id: String,
        guest: Uuid,
        work: impl FnOnce(Arc<Driver>, mpsc::Sender<Result<T, Status>>, CancellationToken, Turn) -> W + Send + 'static,
    ) -> Response<Answers<T>>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Status>> + Send,
    {
        let span = info_span!("operation", name, instance = %guest, request_id);
        let (mut sender, receiver) = mpsc::channel(PROGRESS);
        let given_up = self.given_up.clone();
        let stop = given_up.child_token();
        let listening = stop.clone().drop_guard();
        let (driver, locks, room) = (self.driver.clone(), self.locks.clone(), self.room.clone());
        let progress = sender.clone();
        let work = async move {
            let (turn, _room) = tokio::select! {
                () = stop.cancelled() => return Err(failure(&Error::Cancelled(guest), guest, None)),
                entered = room.enter(&locks, guest) => entered,
            };
            info!("started");
            work(driver, progress, stop, turn).await
        };
        let task = async move {
            let result = caught(work).await.map_err(|status| match status.code() {
                Code::Cancelled if given_up.is_cancelled() => stopping(),
                _ => status,
            });
            report(&result);
            if sender.send(result).await.is_err() {
                info!("the caller is gone");
            }
        };
        self.tasks.spawn(task.instrument(span));
        Response::new(while_listening(receiver, listening))
    }
}

/// A stream whose work panics must not end as if it had come to its end.
async fn caught<T>(work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(status::panicked()))
}

fn report<T>(result: &Result<T, Status>) {
    match result {
        Ok(_) => info!("finished"),
        Err(status) => warn!(code = ?status.code(), "failed: {}", status.message()),
    }
}

fn while_listening<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Status>>, listening: DropGuard) -> Answers<T> {
    stream::unfold((receiver, listening), |(mut receiver, listening)| async move {
        receiver.next().await.map(|answer| (answer, (receiver, listening)))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_ends_its_stream_with_a_failure() {
        let status = caught(async { panic!("a defect") as Result<(), Status> }).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }
}
