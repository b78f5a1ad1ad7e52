//! The calls of `nova_docker.v1.DriverService`.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, Stream, StreamExt as _, channel::mpsc, stream};
use nova_docker_proto::{REVISION, v1, v1::driver_service_server};
use tokio::sync::OwnedMutexGuard;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::{
    convert, create, inside, links, reboot,
    replace::Replacement,
    request,
    room::Room,
    snapshot::{self, Capture},
    status::{self, failure, guest_not_found, invalid, stopping, version_unsupported},
};
use crate::console::Access;
use crate::driver::{CAPABILITIES, Driver, End, Error, InstanceLocks};
use crate::limits::StopTimeout;

/// The oldest client that is served.
const OLDEST_REVISION: u32 = 1;
/// Bytes of a console in one message.
const CONSOLE_CHUNK: usize = 64 * 1024;
/// Messages of progress that may wait for a slow caller.
const PROGRESS: usize = 8;

/// Work on a guest, alone, as long as this lives.
pub(super) type Turn = OwnedMutexGuard<()>;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Work outlives the call that asked for it: a caller that goes away in the middle leaves nothing half-done.
pub(super) struct DriverService {
    driver: Arc<Driver>,
    locks: Arc<InstanceLocks>,
    room: Room,
    tasks: TaskTracker,
    /// Whether clients are to give servers tags of their state.
    state_tags: bool,
    /// No new calls.
    stopping: CancellationToken,
    /// Stop waiting for running work, too.
    given_up: CancellationToken,
}

impl DriverService {
    pub(super) fn new(
        driver: Arc<Driver>,
        room: Room,
        tasks: TaskTracker,
        state_tags: bool,
        stopping: CancellationToken,
        given_up: CancellationToken,
    ) -> Self {
        Self { driver, locks: Arc::default(), room, tasks, state_tags, stopping, given_up }
    }

    /// Of the guests that an operation is under way on.
    pub(super) fn locks(&self) -> Arc<InstanceLocks> {
        self.locks.clone()
    }

    /// Runs a change of one guest, alone, to its end.
    async fn change<T, W>(
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
    async fn long_change<T, W>(
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
    fn stream<T, W>(
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

#[tonic::async_trait]
impl driver_service_server::DriverService for DriverService {
    type CreateGuestStream = Answers<v1::CreateGuestResponse>;
    type ReplaceGuestStream = Answers<v1::ReplaceGuestResponse>;
    type SnapshotGuestStream = Answers<v1::SnapshotGuestResponse>;
    type GetConsoleOutputStream = Answers<v1::GetConsoleOutputResponse>;
    type WatchEventsStream = Answers<v1::WatchEventsResponse>;

    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let v1::GetServerInfoRequest { client, revision, oldest_revision } = request.into_inner();
        let agent_version = env!("CARGO_PKG_VERSION");
        if revision < OLDEST_REVISION || oldest_revision > REVISION {
            let who = if revision < OLDEST_REVISION { "client" } else { "agent" };
            let message = format!(
                "client {client:?} speaks revisions {oldest_revision} to {revision} of nova_docker.v1, and agent \
                 {agent_version} speaks {OLDEST_REVISION} to {REVISION}; upgrade the {who}"
            );
            warn!("{message}");
            return Err(version_unsupported(message, REVISION, OLDEST_REVISION));
        }
        info!(client, revision, "a client asks for this service");
        Ok(Response::new(v1::GetServerInfoResponse {
            agent_version: agent_version.to_owned(),
            revision: REVISION,
            oldest_revision: OLDEST_REVISION,
            capabilities: CAPABILITIES.iter().map(|(name, has)| ((*name).to_owned(), *has)).collect(),
            hypervisor_type: "docker".to_owned(),
            state_tags: self.state_tags,
        }))
    }

    async fn get_host_resources(
        &self,
        _: Request<v1::GetHostResourcesRequest>,
    ) -> Result<Response<v1::GetHostResourcesResponse>, Status> {
        let host = self.driver.host().await.map_err(of_host)?;
        Ok(Response::new(v1::GetHostResourcesResponse { resources: Some(convert::resources(host)) }))
    }

    async fn list_guests(&self, _: Request<v1::ListGuestsRequest>) -> Result<Response<v1::ListGuestsResponse>, Status> {
        let guests = self.driver.guests().await.map_err(of_host)?;
        Ok(Response::new(v1::ListGuestsResponse { guests: guests.iter().map(convert::guest_state).collect() }))
    }

    async fn get_guest(&self, request: Request<v1::GetGuestRequest>) -> Result<Response<v1::GetGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let found = self.driver.guest(guest).await;
        let found = found.map_err(|error| failure(&error, guest, None))?;
        let found = found.ok_or_else(|| guest_not_found(guest))?;
        Ok(Response::new(v1::GetGuestResponse { guest: Some(convert::guest_state(&found)) }))
    }

    async fn create_guest(
        &self,
        request: Request<v1::CreateGuestRequest>,
    ) -> Result<Response<Self::CreateGuestStream>, Status> {
        let caller = request::caller(request.metadata());
        let creation = create::Creation::new(request.into_inner(), caller)?;
        let (guest, id) = (creation.guest.uuid, creation.caller.request_id.clone());
        Ok(self.stream("create_guest", id, guest, async move |driver, progress, stop, _turn| {
            Box::pin(creation.run(driver, progress, stop)).await?;
            Ok(v1::CreateGuestResponse { stage: v1::CreateStage::Ready.into() })
        }))
    }

    async fn start_guest(
        &self,
        request: Request<v1::StartGuestRequest>,
    ) -> Result<Response<v1::StartGuestResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let interfaces = convert::interfaces(guest, request.interfaces)?;
        let user_data = request.user_data.unwrap_or_default();
        let start = async move |h: Arc<Driver>| {
            h.give_again(guest, &user_data).await?;
            h.power_on(guest, &interfaces).await
        };
        self.change("start_guest", &metadata, guest, start).await?;
        Ok(Response::new(v1::StartGuestResponse {}))
    }

    async fn stop_guest(
        &self,
        request: Request<v1::StopGuestRequest>,
    ) -> Result<Response<v1::StopGuestResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let timeout = StopTimeout::of_peer(request.timeout);
        self.change("stop_guest", &metadata, guest, async move |h| h.stop(guest, timeout).await).await?;
        Ok(Response::new(v1::StopGuestResponse {}))
    }

    async fn reboot_guest(
        &self,
        request: Request<v1::RebootGuestRequest>,
    ) -> Result<Response<v1::RebootGuestResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let interfaces = convert::interfaces(guest, request.interfaces)?;
        let timeout = StopTimeout::of_peer(request.timeout);
        let user_data = request.user_data.unwrap_or_default();
        let asked = reboot::asked(guest, timeout, request.guest, request.image)?;
        let reboot = async move |h: Arc<Driver>| {
            h.give_again(guest, &user_data).await?;
            match asked {
                Some(asked) => reboot::as_asked(&h, asked, &interfaces).await,
                None => h.reboot(guest, timeout, &interfaces).await,
            }
        };
        self.change("reboot_guest", &metadata, guest, reboot).await?;
        Ok(Response::new(v1::RebootGuestResponse {}))
    }

    async fn pause_guest(
        &self,
        request: Request<v1::PauseGuestRequest>,
    ) -> Result<Response<v1::PauseGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        self.change("pause_guest", request.metadata(), guest, async move |h| h.pause(guest).await).await?;
        Ok(Response::new(v1::PauseGuestResponse {}))
    }

    async fn unpause_guest(
        &self,
        request: Request<v1::UnpauseGuestRequest>,
    ) -> Result<Response<v1::UnpauseGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let unpause = async move |h: Arc<Driver>| h.unpause(guest).await;
        self.change("unpause_guest", request.metadata(), guest, unpause).await?;
        Ok(Response::new(v1::UnpauseGuestResponse {}))
    }

    async fn suspend_guest(
        &self,
        request: Request<v1::SuspendGuestRequest>,
    ) -> Result<Response<v1::SuspendGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let suspend = async move |h: Arc<Driver>| h.suspend(guest).await;
        self.long_change("suspend_guest", request.metadata(), guest, suspend).await?;
        Ok(Response::new(v1::SuspendGuestResponse {}))
    }

    async fn resume_guest(
        &self,
        request: Request<v1::ResumeGuestRequest>,
    ) -> Result<Response<v1::ResumeGuestResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let interfaces = convert::interfaces(guest, request.interfaces)?;
        let user_data = request.user_data.unwrap_or_default();
        let resume = async move |h: Arc<Driver>| {
            h.give_again(guest, &user_data).await?;
            h.resume(guest, &interfaces).await
        };
        self.long_change("resume_guest", &metadata, guest, resume).await?;
        Ok(Response::new(v1::ResumeGuestResponse {}))
    }

    async fn delete_guest(
        &self,
        request: Request<v1::DeleteGuestRequest>,
    ) -> Result<Response<v1::DeleteGuestResponse>, Status> {
        let v1::DeleteGuestRequest { guest_id, server_deleted, remove_volumes } = request.get_ref();
        let guest = convert::uuid("guest_id", guest_id)?;
        let end = if *server_deleted { End::Deleted { with_volumes: *remove_volumes } } else { End::Replaced };
        self.driver.end_suspension(guest).await;
        self.change("delete_guest", request.metadata(), guest, async move |h| h.remove(guest, end).await).await?;
        Ok(Response::new(v1::DeleteGuestResponse {}))
    }

    async fn snapshot_guest(
        &self,
        request: Request<v1::SnapshotGuestRequest>,
    ) -> Result<Response<Self::SnapshotGuestStream>, Status> {
        let caller = request::caller(request.metadata());
        let capture = Capture::new(request.into_inner(), caller)?;
        let (guest, id) = (capture.guest, capture.caller.request_id.clone());
        Ok(self.stream("snapshot_guest", id, guest, async move |driver, progress: snapshot::Progress, stop, turn| {
            capture.run(driver, progress, stop, turn).await?;
            Ok(v1::SnapshotGuestResponse { stage: v1::SnapshotStage::Uploaded.into() })
        }))
    }

    async fn replace_guest(
        &self,
        request: Request<v1::ReplaceGuestRequest>,
    ) -> Result<Response<Self::ReplaceGuestStream>, Status> {
        let caller = request::caller(request.metadata());
        let replacement = Replacement::new(request.into_inner(), caller)?;
        let (guest, id) = (replacement.guest.uuid, replacement.caller.request_id.clone());
        Ok(self.stream("replace_guest", id, guest, async move |driver, progress, stop, _turn| {
            Box::pin(replacement.run(driver, progress, stop)).await?;
            Ok(v1::ReplaceGuestResponse { stage: v1::CreateStage::Ready.into() })
        }))
    }

    async fn settle_guest(
        &self,
        request: Request<v1::SettleGuestRequest>,
    ) -> Result<Response<v1::SettleGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        self.change("settle_guest", request.metadata(), guest, async move |h| h.settle(guest).await).await?;
        Ok(Response::new(v1::SettleGuestResponse {}))
    }

    async fn restore_guest(
        &self,
        request: Request<v1::RestoreGuestRequest>,
    ) -> Result<Response<v1::RestoreGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let restore = async move |h: Arc<Driver>| h.restore(guest).await.map(drop);
        self.change("restore_guest", request.metadata(), guest, restore).await?;
        Ok(Response::new(v1::RestoreGuestResponse {}))
    }

    async fn get_console_output(
        &self,
        request: Request<v1::GetConsoleOutputRequest>,
    ) -> Result<Response<Self::GetConsoleOutputStream>, Status> {
        let request = request.into_inner();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let lines = request.tail_lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
        if lines == Some(0) {
            return Ok(Response::new(stream::empty().boxed()));
        }
        let text = self.driver.console(guest, lines).await;
        let bytes = Bytes::from(text.map_err(|error| failure(&error, guest, None))?);
        let starts = (0..bytes.len()).step_by(CONSOLE_CHUNK);
        let chunks: Vec<_> = starts
            .map(|start| {
                let chunk = bytes.slice(start..bytes.len().min(start + CONSOLE_CHUNK)).to_vec();
                Ok(v1::GetConsoleOutputResponse { chunk })
            })
            .collect();
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn get_guest_diagnostics(
        &self,
        request: Request<v1::GetGuestDiagnosticsRequest>,
    ) -> Result<Response<v1::GetGuestDiagnosticsResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let found = self.driver.diagnostics(guest).await.map_err(|error| failure(&error, guest, None))?;
        Ok(Response::new(v1::GetGuestDiagnosticsResponse { diagnostics: Some(inside::diagnostics(found)) }))
    }

    async fn set_guest_password(
        &self,
        request: Request<v1::SetGuestPasswordRequest>,
    ) -> Result<Response<v1::SetGuestPasswordResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let (user, password) = inside::account(request);
        let set = async move |h: Arc<Driver>| h.set_password(guest, &user, &password).await;
        self.change("set_guest_password", &metadata, guest, set).await?;
        Ok(Response::new(v1::SetGuestPasswordResponse {}))
    }

    async fn get_links(&self, request: Request<v1::GetLinksRequest>) -> Result<Response<v1::GetLinksResponse>, Status> {
        Ok(Response::new(links::get(&self.driver, request.into_inner()).await?))
    }

    async fn update_links(
        &self,
        request: Request<v1::UpdateLinksRequest>,
    ) -> Result<Response<v1::UpdateLinksResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let networks = request.network_ids.iter().map(|id| convert::uuid("network_ids", id));
        let networks = networks.collect::<Result<Vec<_>, _>>()?;
        let peers = links::peers(guest, request.links.unwrap_or_default())?;
        let update = async move |h: Arc<Driver>| h.update_links(guest, &networks, &peers).await;
        self.change("update_links", &metadata, guest, update).await?;
        Ok(Response::new(v1::UpdateLinksResponse {}))
    }

    async fn get_serial_console(
        &self,
        request: Request<v1::GetSerialConsoleRequest>,
    ) -> Result<Response<v1::GetSerialConsoleResponse>, Status> {
        let v1::GetSerialConsoleRequest { guest_id, life } = request.into_inner();
        let guest = convert::uuid("guest_id", &guest_id)?;
        let life =
            std::time::Duration::try_from(life.unwrap_or_default()).map_err(|_| invalid("life", "is negative"))?;
        let access = self.driver.serial_console(guest, life).await;
        let Access { host, port, internal_access_path } = access.map_err(|error| failure(&error, guest, None))?;
        Ok(Response::new(v1::GetSerialConsoleResponse { host, port: port.into(), internal_access_path }))
    }

    async fn plug_guest(
        &self,
        request: Request<v1::PlugGuestRequest>,
    ) -> Result<Response<v1::PlugGuestResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let interfaces = convert::interfaces(guest, request.interfaces)?;
        let plug = async move |h: Arc<Driver>| h.plug(guest, &interfaces).await;
        self.change("plug_guest", &metadata, guest, plug).await?;
        Ok(Response::new(v1::PlugGuestResponse {}))
    }

    async fn unplug_guest(
        &self,
        request: Request<v1::UnplugGuestRequest>,
    ) -> Result<Response<v1::UnplugGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let unplug = async move |h: Arc<Driver>| h.unplug(guest).await;
        self.change("unplug_guest", request.metadata(), guest, unplug).await?;
        Ok(Response::new(v1::UnplugGuestResponse {}))
    }

    async fn attach_interface(
        &self,
        request: Request<v1::AttachInterfaceRequest>,
    ) -> Result<Response<v1::AttachInterfaceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let interface = request.interface.ok_or_else(|| invalid("interface", "is missing"))?;
        let mut interfaces = convert::interfaces(guest, vec![interface])?;
        let interface = interfaces.pop().ok_or_else(|| invalid("interface", "is missing"))?;
        let attach = async move |h: Arc<Driver>| h.attach(guest, interface).await;
        let device = self.change("attach_interface", &metadata, guest, attach).await?;
        Ok(Response::new(v1::AttachInterfaceResponse { device }))
    }

    async fn detach_interface(
        &self,
        request: Request<v1::DetachInterfaceRequest>,
    ) -> Result<Response<v1::DetachInterfaceResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let port = convert::uuid("port_id", &request.get_ref().port_id)?;
        let detach = async move |h: Arc<Driver>| h.detach(guest, port).await;
        self.change("detach_interface", request.metadata(), guest, detach).await?;
        Ok(Response::new(v1::DetachInterfaceResponse {}))
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let events = self.driver.events().map(|event| Ok(convert::event(event)));
        let first = stream::once(async { Ok(v1::WatchEventsResponse { event: None }) });
        let stopping = self.stopping.clone().cancelled_owned();
        Ok(Response::new(first.chain(events).take_until(stopping).boxed()))
    }
}

/// A failure that is of no guest.
fn of_host(error: Error) -> Status {
    failure(&error, Uuid::nil(), None)
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
