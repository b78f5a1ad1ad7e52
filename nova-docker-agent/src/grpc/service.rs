//! The calls of `nova_docker.v1.DriverService`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use nova_docker_proto::{REVISION, v1, v1::driver_service_server};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    convert, create, inside, links,
    operations::{Answers, Operations},
    reboot,
    replace::Replacement,
    request,
    snapshot::{self, Capture},
    status::{failure, guest_not_found, invalid, version_unsupported},
};
use crate::console::Access;
use crate::driver::{CAPABILITIES, Driver, End, Error};
use crate::limits::StopTimeout;

/// The oldest client that is served.
const OLDEST_REVISION: u32 = 1;
/// Bytes of a console in one message.
const CONSOLE_CHUNK: usize = 64 * 1024;

/// The service.
pub(super) struct DriverService {
    operations: Operations,
    driver: Arc<Driver>,
    /// Whether clients are to give servers tags of their state.
    state_tags: bool,
    /// No new calls.
    stopping: CancellationToken,
}

impl DriverService {
    pub(super) fn new(operations: Operations, state_tags: bool, stopping: CancellationToken) -> Self {
        Self { driver: operations.driver.clone(), operations, state_tags, stopping }
    }
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
        Ok(self.operations.stream("create_guest", id, guest, async move |driver, progress, stop, _turn| {
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
        self.operations.change("start_guest", &metadata, guest, start).await?;
        Ok(Response::new(v1::StartGuestResponse {}))
    }

    async fn stop_guest(
        &self,
        request: Request<v1::StopGuestRequest>,
    ) -> Result<Response<v1::StopGuestResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let timeout = StopTimeout::of_peer(request.timeout);
        self.operations.change("stop_guest", &metadata, guest, async move |h| h.stop(guest, timeout).await).await?;
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
        self.operations.change("reboot_guest", &metadata, guest, reboot).await?;
        Ok(Response::new(v1::RebootGuestResponse {}))
    }

    async fn pause_guest(
        &self,
        request: Request<v1::PauseGuestRequest>,
    ) -> Result<Response<v1::PauseGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        self.operations.change("pause_guest", request.metadata(), guest, async move |h| h.pause(guest).await).await?;
        Ok(Response::new(v1::PauseGuestResponse {}))
    }

    async fn unpause_guest(
        &self,
        request: Request<v1::UnpauseGuestRequest>,
    ) -> Result<Response<v1::UnpauseGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let unpause = async move |h: Arc<Driver>| h.unpause(guest).await;
        self.operations.change("unpause_guest", request.metadata(), guest, unpause).await?;
        Ok(Response::new(v1::UnpauseGuestResponse {}))
    }

    async fn suspend_guest(
        &self,
        request: Request<v1::SuspendGuestRequest>,
    ) -> Result<Response<v1::SuspendGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let suspend = async move |h: Arc<Driver>| h.suspend(guest).await;
        self.operations.long_change("suspend_guest", request.metadata(), guest, suspend).await?;
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
        self.operations.long_change("resume_guest", &metadata, guest, resume).await?;
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
        self.operations
            .change("delete_guest", request.metadata(), guest, async move |h| h.remove(guest, end).await)
            .await?;
        Ok(Response::new(v1::DeleteGuestResponse {}))
    }

    async fn snapshot_guest(
        &self,
        request: Request<v1::SnapshotGuestRequest>,
    ) -> Result<Response<Self::SnapshotGuestStream>, Status> {
        let caller = request::caller(request.metadata());
        let capture = Capture::new(request.into_inner(), caller)?;
        let (guest, id) = (capture.guest, capture.caller.request_id.clone());
        Ok(self.operations.stream(
            "snapshot_guest",
            id,
            guest,
            async move |driver, progress: snapshot::Progress, stop, turn| {
                capture.run(driver, progress, stop, turn).await?;
                Ok(v1::SnapshotGuestResponse { stage: v1::SnapshotStage::Uploaded.into() })
            },
        ))
    }

    async fn replace_guest(
        &self,
        request: Request<v1::ReplaceGuestRequest>,
    ) -> Result<Response<Self::ReplaceGuestStream>, Status> {
        let caller = request::caller(request.metadata());
        let replacement = Replacement::new(request.into_inner(), caller)?;
        let (guest, id) = (replacement.guest.uuid, replacement.caller.request_id.clone());
        Ok(self.operations.stream("replace_guest", id, guest, async move |driver, progress, stop, _turn| {
            Box::pin(replacement.run(driver, progress, stop)).await?;
            Ok(v1::ReplaceGuestResponse { stage: v1::CreateStage::Ready.into() })
        }))
    }

    async fn settle_guest(
        &self,
        request: Request<v1::SettleGuestRequest>,
    ) -> Result<Response<v1::SettleGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        self.operations.change("settle_guest", request.metadata(), guest, async move |h| h.settle(guest).await).await?;
        Ok(Response::new(v1::SettleGuestResponse {}))
    }

    async fn restore_guest(
        &self,
        request: Request<v1::RestoreGuestRequest>,
    ) -> Result<Response<v1::RestoreGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let restore = async move |h: Arc<Driver>| h.restore(guest).await.map(drop);
        self.operations.change("restore_guest", request.metadata(), guest, restore).await?;
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
        self.operations.change("set_guest_password", &metadata, guest, set).await?;
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
        self.operations.change("update_links", &metadata, guest, update).await?;
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
        self.operations.change("plug_guest", &metadata, guest, plug).await?;
        Ok(Response::new(v1::PlugGuestResponse {}))
    }

    async fn unplug_guest(
        &self,
        request: Request<v1::UnplugGuestRequest>,
    ) -> Result<Response<v1::UnplugGuestResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let unplug = async move |h: Arc<Driver>| h.unplug(guest).await;
        self.operations.change("unplug_guest", request.metadata(), guest, unplug).await?;
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
        let device = self.operations.change("attach_interface", &metadata, guest, attach).await?;
        Ok(Response::new(v1::AttachInterfaceResponse { device }))
    }

    async fn detach_interface(
        &self,
        request: Request<v1::DetachInterfaceRequest>,
    ) -> Result<Response<v1::DetachInterfaceResponse>, Status> {
        let guest = convert::uuid("guest_id", &request.get_ref().guest_id)?;
        let port = convert::uuid("port_id", &request.get_ref().port_id)?;
        let detach = async move |h: Arc<Driver>| h.detach(guest, port).await;
        self.operations.change("detach_interface", request.metadata(), guest, detach).await?;
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
