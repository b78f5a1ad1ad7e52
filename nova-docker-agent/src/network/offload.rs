//! Checksum offload of a veth pair.

use std::path::Path;
use std::process::Stdio;

use super::{Error, Interface, namespace};

/// Turns transmit checksum offload off on both sides of the pair, as a datapath in user space needs it. Segmentation
/// offload goes with it. A datapath in the kernel keeps it: there it costs nothing and saves much.
pub(super) async fn disable(namespace: &Path, interface: &Interface) -> Result<(), Error> {
    let outer = interface.devname.clone();
    let inner = interface.name.clone();
    tokio::task::spawn_blocking(move || ethtool(&outer))
        .await
        .map_err(|error| Error::system("run ethtool", std::io::Error::other(error)))??;
    namespace::inside(namespace, move || ethtool(&inner)).await
}

/// The `ethtool` command: no safe crate can change a feature, and the ioctl needs unsafe code. It inherits the calling
/// thread's namespace.
#[allow(clippy::disallowed_methods, reason = "on a thread that may block, and whose namespace the command inherits")]
fn ethtool(device: &str) -> Result<(), Error> {
    let action = || format!("turn transmit checksum offload of {device} off with ethtool");
    let output = std::process::Command::new("ethtool")
        .args(["-K", device, "tx", "off"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::system(action(), source))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::system(action(), std::io::Error::other(words.trim().replace('\n', "; "))))
}
