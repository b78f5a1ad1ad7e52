//! The disks of an instance.

use super::{Conductor, kwargs};
use crate::messaging::{CallError, Context};
use crate::objects::BlockDeviceMapping;

impl Conductor {
    /// The disks of an instance, as they are in the database.
    pub async fn block_device_mappings(
        &self,
        context: &Context,
        uuid: &str,
    ) -> Result<Vec<BlockDeviceMapping>, CallError> {
        let args = vec![uuid.into()];
        self.list(context, "BlockDeviceMappingList", "get_by_instance_uuid", args, kwargs([])).await
    }

    /// Writes the changed fields of a disk.
    pub async fn save_block_device(
        &self,
        context: &Context,
        block_device: &mut BlockDeviceMapping,
    ) -> Result<(), CallError> {
        self.act(context, block_device, "save").await
    }

    /// Removes a disk's row.
    pub async fn destroy_block_device(
        &self,
        context: &Context,
        block_device: &mut BlockDeviceMapping,
    ) -> Result<(), CallError> {
        self.act(context, block_device, "destroy").await
    }
}
