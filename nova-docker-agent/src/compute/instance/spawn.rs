//! The work of a build: image and network at the same time, then the container.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::compute::ports::{AllocateRequest, Allocation, NetworkInfo, Networks, ProviderMapping};
use crate::compute::{
    Compute,
    error::Error,
    instance::config_drive::is_wanted,
    instance::devices::{device_metadata, tagged},
    instance::guest::guest,
    instance::image::descriptor,
    instance::inside::inside,
    instance::request::BuildRequest,
    instance::wiring::Wiring,
    ports::interfaces::interfaces,
};
use crate::{
    driver::Image,
    guest::{Guest, Inside},
    messaging::Context,
    network::Interface,
    objects::{Expected, Instance, TaskState, VmState},
};

/// A root device to show; containers have no disks.
pub(in crate::compute) const ROOT_DEVICE: &str = "/dev/sda";

impl Compute {
    /// Brings the instance up to a container that runs. Everything that it made before a failure is still there.
    pub(in crate::compute) async fn spawn(
        &self,
        context: &Context,
        request: &mut BuildRequest,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let image = descriptor(&request.image)?;
        let mut guest = guest(&request.instance, &request.image, self.compute_id)?;
        self.link(&mut guest).await?;
        guest.inside = inside(guest.inside, &request.rest)?;
        guest.inside.has_config_drive = is_wanted(&request.instance, &request.image, &self.config.metadata);
        let image = Image { caller: self.caller(context), descriptor: &image, is_bounded: true };
        // Boxed: without optimization the states of all of it are too much for a thread's stack.
        let network = Box::pin(self.plug_network(context, request, &guest.inside));
        Box::pin(self.bring_up(&guest, image, network, cancelled)).await
    }

    /// Pulls the image while `network` makes the interfaces and plugs them, makes the container, waits until the interfaces
    /// are wired and starts it. Everything that was made before a failure is still there.
    pub(in crate::compute) async fn bring_up(
        &self,
        guest: &Guest,
        image: Image<'_>,
        network: impl Future<Output = Result<(Vec<Interface>, Wiring), Error>>,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let wiring = self.driver.spawn(guest, image, async {}, network, cancelled).await?;
        self.await_plugged(guest.uuid, wiring, cancelled).await?;
        self.start_new(guest.uuid).await?;
        // What changed while it was made, nobody has told it.
        self.links_changed();
        info!("the container runs");
        Ok(())
    }

    /// Makes the ports and plugs them. Returns the wait for Neutron to say that they are wired.
    async fn plug_network(
        &self,
        context: &Context,
        request: &mut BuildRequest,
        inside: &Inside,
    ) -> Result<(Vec<Interface>, Wiring), Error> {
        let networking = json!({"vm_state": VmState::Building, "task_state": TaskState::Networking});
        self.save(context, &mut request.instance, networking, Expected::before(TaskState::Networking)).await?;
        let network = self.allocate_network(context, request).await?;
        let interfaces = interfaces(&network)?;
        let uuid = request.uuid;
        let wiring = self.await_wiring(uuid, &network, &interfaces);
        // Both run to their ends: a plug that is dropped half-way could finish after the build is undone.
        let (plugged, prepared) =
            tokio::join!(self.driver.plug_new(uuid, &interfaces), self.prepare_block_devices(context, request));
        plugged?;
        prepared?;
        if inside.has_config_drive {
            self.write_config_drive(context, &request.instance, &network, inside).await?;
        }
        Ok((interfaces, wiring))
    }

    async fn allocate_network(&self, context: &Context, request: &mut BuildRequest) -> Result<NetworkInfo, Error> {
        // Binding a port makes Neutron send network-changed: its handler must not write a cache that it read before ours,
        // or the record of which ports are the user's is lost, and they are deleted with the server.
        let _lock = self.cache_locks.lock(request.uuid).await;
        let caller = self.caller(context);
        let wanted = self.allocate_request(context, &request.instance, request.uuid, request.networks.clone());
        let resources = request.rest.get("request_spec").map(ProviderMapping::of_request_spec).unwrap_or_default();
        let wanted = AllocateRequest { security_groups: request.security_groups.clone(), resources, ..wanted };
        let retries = self.config.network_allocate_retries;
        let allocation = self.ports.allocate_patiently(&caller, &wanted, retries).await?;
        let nothing = NetworkInfo::default();
        let (rows, network) = tokio::join!(
            self.create_virtual_interfaces(context, request.uuid, &allocation),
            self.ports.network_info_of(&caller, &allocation, &nothing),
        );
        rows?;
        let network = network?;
        self.save_network_info(context, request.uuid, &network).await?;
        let tagged = tagged(&allocation);
        if !tagged.is_empty() {
            let devices = json!({"device_metadata": device_metadata(&tagged)});
            self.save(context, &mut request.instance, devices, Expected::Any).await?;
        }
        Ok(network)
    }

    /// What Neutron is asked for an instance: ports on these networks, in the default security group.
    pub(in crate::compute) fn allocate_request(
        &self,
        context: &Context,
        instance: &Instance,
        uuid: Uuid,
        networks: Networks,
    ) -> AllocateRequest {
        let zone = instance.availability_zone().unwrap_or(&self.config.default_availability_zone);
        AllocateRequest {
            instance_uuid: uuid,
            project_id: instance.project_id().unwrap_or_default().to_owned(),
            availability_zone: zone.to_owned(),
            host: self.host.clone(),
            hostname: instance.hostname().map(str::to_owned),
            networks,
            security_groups: Vec::new(),
            is_admin: context.get("is_admin").and_then(serde_json::Value::as_bool).unwrap_or(false),
            resources: ProviderMapping::default(),
        }
    }

    /// One after another: Nova takes the order of the rows for the order of the interfaces.
    pub(in crate::compute) async fn create_virtual_interfaces(
        &self,
        context: &Context,
        instance: Uuid,
        allocation: &Allocation,
    ) -> Result<(), Error> {
        let instance = instance.to_string();
        for allocated in &allocation.ports {
            let (port, tag) = (&allocated.port, allocated.tag.as_deref());
            let id = port.id.to_string();
            self.conductor.create_virtual_interface(context, &instance, &id, &port.mac_address, tag).await?;
        }
        Ok(())
    }

    /// Nova shows a device for the root disk, and expects each task state in turn.
    async fn prepare_block_devices(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        let root = async {
            for device in request.block_devices.iter_mut().filter(|device| device.is_root()) {
                device.set("device_name", ROOT_DEVICE);
                self.conductor.save_block_device(context, device).await?;
            }
            Ok::<_, Error>(())
        };
        let states = async {
            let mapping = json!({"vm_state": VmState::Building, "task_state": TaskState::BlockDeviceMapping, "root_device_name": ROOT_DEVICE});
            self.save(context, &mut request.instance, mapping, Expected::before(TaskState::BlockDeviceMapping)).await?;
            self.save(
                context,
                &mut request.instance,
                json!({"task_state": TaskState::Spawning}),
                Expected::before(TaskState::Spawning),
            )
            .await
        };
        tokio::try_join!(root, states)?;
        Ok(())
    }
}
