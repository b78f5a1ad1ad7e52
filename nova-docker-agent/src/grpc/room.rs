//! How many calls are worked on at a time. What is answered in a stream goes on after the answer has begun, so it takes room of its
//! own; so does what may take long and is answered at its end.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _};
use hyper::Request;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};
use uuid::Uuid;

use crate::locks::InstanceLocks;

/// Calls without a stream that take long: as much memory as a guest has goes to disk, or comes back.
const LONG: [&str; 2] = ["/nova_docker.v1.DriverService/SuspendGuest", "/nova_docker.v1.DriverService/ResumeGuest"];

/// The room of one long call.
pub(super) type Taken = [Option<OwnedSemaphorePermit>; 2];

/// Room for so many calls, half of which at most may be long ones: creations, replacements, snapshots, and those of [`LONG`].
#[derive(Clone)]
pub(super) struct Room {
    calls: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self { calls: Arc::new(Semaphore::new(limit)), long: Arc::new(Semaphore::new((limit / 2).max(1))) }
    }

    /// Has each call wait for room, which it has until it is answered; but those of [`LONG`].
    pub(super) fn layer(&self) -> RoomLayer {
        RoomLayer(self.calls.clone())
    }

    /// Waits for the guest's turn and for room for a long call, both for as long as what is returned lives. Nobody waits for one of them
    /// while holding the other: calls that wait for one guest leave the room to others, and a turn waits for no room.
    pub(super) async fn enter(&self, locks: &InstanceLocks, guest: Uuid) -> (OwnedMutexGuard<()>, Taken) {
        loop {
            let turn = locks.lock(guest).await;
            if let Some(room) = self.try_take() {
                return (turn, room);
            }
            drop(turn);
            let room = self.take().await;
            if let Some(turn) = locks.try_lock(guest) {
                return (turn, room);
            }
        }
    }

    async fn take(&self) -> Taken {
        // They are never closed.
        let long = self.long.clone().acquire_owned().await.ok();
        [long, self.calls.clone().acquire_owned().await.ok()]
    }

    fn try_take(&self) -> Option<Taken> {
        let long = self.long.clone().try_acquire_owned().ok()?;
        Some([Some(long), Some(self.calls.clone().try_acquire_owned().ok()?)])
    }
}

/// See [`Room::layer`].
#[derive(Clone)]
pub(super) struct RoomLayer(Arc<Semaphore>);

impl<S> Layer<S> for RoomLayer {
    type Service = Roomy<S>;

    fn layer(&self, inner: S) -> Roomy<S> {
        Roomy { inner, calls: self.0.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Roomy<S> {
    inner: S,
    calls: Arc<Semaphore>,
}

impl<S, B> Service<Request<B>> for Roomy<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let calls = (!LONG.contains(&request.uri().path())).then(|| self.calls.clone());
        // The one that was asked whether it is ready.
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        async move {
            // Never closed.
            let _room = match calls {
                Some(calls) => calls.acquire_owned().await.ok(),
                None => None,
            };
            ready.call(request).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_call_without_a_stream_is_let_in_and_takes_its_room_by_itself() {
        let room = Room::new(1);
        let taken = room.take().now_or_never();
        assert!(taken.is_some());
        let answer = tower::service_fn(async |_: Request<()>| Ok::<_, std::convert::Infallible>(()));
        let mut service = room.layer().layer(answer);
        let mut call = |path: &str| service.call(Request::builder().uri(path).body(()).unwrap()).now_or_never();
        assert!(LONG.into_iter().all(|path| call(path).is_some()));
        assert!(call("/nova_docker.v1.DriverService/ListGuests").is_none());
        drop(taken);
        assert!(call("/nova_docker.v1.DriverService/ListGuests").is_some());
    }

    #[test]
    fn long_calls_leave_half_of_the_room_to_others() {
        let room = Room::new(4);
        let first = room.take().now_or_never();
        let second = room.take().now_or_never();
        assert!(first.is_some() && second.is_some());
        assert!(room.take().now_or_never().is_none(), "a third long one");
        assert_eq!(room.calls.available_permits(), 2);
        drop(first);
        assert!(room.take().now_or_never().is_some());
    }

    #[test]
    fn with_room_for_one_a_long_call_has_it_alone() {
        let room = Room::new(1);
        let long = room.take().now_or_never();
        assert!(long.is_some());
        assert_eq!(room.calls.available_permits(), 0);
    }

    #[test]
    fn who_waits_for_a_guest_takes_no_room_and_who_waits_for_room_keeps_no_guest() {
        let (room, locks) = (Room::new(4), InstanceLocks::default());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = room.enter(&locks, one).now_or_never().unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(room.enter(&locks, one))).collect();
        assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
        let second = room.enter(&locks, other).now_or_never();
        assert!(second.is_some(), "calls for another guest hold the room");
        let mut third = Box::pin(room.enter(&locks, Uuid::from_u128(3)));
        assert!((&mut third).now_or_never().is_none());
        assert!(locks.try_lock(Uuid::from_u128(3)).is_some(), "a guest is held without room");
        drop(first);
        let next =
            (&mut third).now_or_never().is_some() || waiting.iter_mut().any(|call| call.now_or_never().is_some());
        assert!(next, "nobody follows");
    }
}
