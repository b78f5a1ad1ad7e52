//! What Nova remembers about an instance's ports.

use serde_json::{Value, json};

use super::{Conductor, kwargs};
use crate::messaging::{CallError, Context};
use crate::objects::{InstanceInfoCache, VirtualInterface};

impl Conductor {
    /// Writes the cached VIFs (a JSON list), and creates the cache's row if there is none.
    pub async fn save_info_cache(&self, context: &Context, uuid: &str, network_info: &Value) -> Result<(), CallError> {
        let mut cache = InstanceInfoCache::empty();
        cache.set("instance_uuid", uuid);
        // The field is a text that holds JSON.
        cache.set("network_info", network_info.to_string());
        self.act(context, &mut cache, "save").await
    }

    /// Reads the cached VIFs (a JSON list).
    pub async fn info_cache(&self, context: &Context, uuid: &str) -> Result<Value, CallError> {
        let args = vec![uuid.into()];
        let cache: InstanceInfoCache =
            self.get(context, "InstanceInfoCache", "get_by_instance_uuid", args, kwargs([])).await?;
        Ok(cache.network_info())
    }

    /// Records a port of an instance, with the tag that the user gave it.
    pub async fn create_virtual_interface(
        &self,
        context: &Context,
        uuid: &str,
        port_id: &str,
        mac_address: &str,
        tag: Option<&str>,
    ) -> Result<(), CallError> {
        let mut interface = VirtualInterface::empty();
        // Addresses are unique in this table though not in Neutron, so Nova appends the port.
        interface.set("address", format!("{mac_address}/{port_id}"));
        interface.set("instance_uuid", uuid);
        interface.set("uuid", port_id);
        interface.set("tag", json!(tag));
        self.act(context, &mut interface, "create").await
    }

    /// Forgets one port; one that is not recorded is fine.
    pub async fn delete_virtual_interface(&self, context: &Context, port_id: &str) -> Result<(), CallError> {
        let args = vec![port_id.into()];
        let found = self.class_action(context, "VirtualInterface", "get_by_uuid", args, kwargs([])).await?;
        if found.is_null() {
            return Ok(());
        }
        let mut interface = VirtualInterface::try_from(found)
            .map_err(|error| super::malformed("VirtualInterface.get_by_uuid", error))?;
        self.act(context, &mut interface, "destroy").await
    }

    /// Forgets the ports of an instance.
    pub async fn delete_virtual_interfaces(&self, context: &Context, uuid: &str) -> Result<(), CallError> {
        let args = vec![uuid.into()];
        self.class_action(context, "VirtualInterface", "delete_by_instance_uuid", args, kwargs([])).await.map(drop)
    }
}
