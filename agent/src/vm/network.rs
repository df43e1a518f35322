//! A machine's network card: its address, and the tap device that puts it into a bridge.

use std::io;
use std::path::PathBuf;
use std::process::Output;

use novacron_protocol::ids::VmId;
use tokio::process::Command;

/// Why a tap device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no such bridge here.
    #[error(
        "network.bridge: there is no bridge `{bridge}` on this node; make it, or use network `user`"
    )]
    NoBridge {
        /// The bridge.
        bridge: String,
    },
    /// `ip` cannot be run.
    #[error("`ip` cannot be run; install iproute2")]
    NoTool(#[source] io::Error),
    /// `ip` said no.
    #[error("`ip {arguments}` failed: {message}")]
    Refused {
        /// What was asked.
        arguments: String,
        /// What it said.
        message: String,
    },
}

/// The card's address: locally administered, and 40 bits of the machine's id, so that the machine has the same one
/// wherever it runs and after every restart, and two of a large fleet hardly ever share one.
pub fn mac_address(vm: VmId) -> String {
    let hash = blake3::hash(vm.0.as_bytes());
    let [a, b, c, d, e, ..] = hash.as_bytes();
    format!("52:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}

/// The tap's name on this host: at most 15 bytes, told apart by 44 bits of the machine's id.
pub fn tap_name(vm: VmId) -> String {
    let hash = blake3::hash(vm.0.as_bytes()).to_hex();
    format!("nova{}", &hash[..11])
}

/// Checks that there is such a bridge.
///
/// # Errors
/// [`NetworkError::NoBridge`].
pub fn check_bridge(bridge: &str) -> Result<(), NetworkError> {
    if PathBuf::from(format!("/sys/class/net/{bridge}/bridge")).is_dir() {
        return Ok(());
    }
    Err(NetworkError::NoBridge { bridge: bridge.to_owned() })
}

/// Makes the machine's tap and puts it into the bridge. An old one is replaced.
///
/// # Errors
/// [`NetworkError`].
pub async fn create_tap(vm: VmId, bridge: &str) -> Result<String, NetworkError> {
    check_bridge(bridge)?;
    let tap = tap_name(vm);
    delete_tap(vm).await;
    ip(&["tuntap", "add", "dev", &tap, "mode", "tap"]).await?;
    let joined = match ip(&["link", "set", "dev", &tap, "master", bridge]).await {
        Ok(()) => ip(&["link", "set", "dev", &tap, "up"]).await,
        refused => refused,
    };
    if joined.is_err() {
        delete_tap(vm).await;
    }
    joined.map(|()| tap)
}

/// Removes the machine's tap if there is one.
pub async fn delete_tap(vm: VmId) {
    let tap = tap_name(vm);
    if !PathBuf::from(format!("/sys/class/net/{tap}")).exists() {
        return;
    }
    if let Err(error) = ip(&["link", "delete", "dev", &tap]).await {
        tracing::warn!(%vm, %tap, %error, "tap device stays behind");
    }
}

async fn ip(arguments: &[&str]) -> Result<(), NetworkError> {
    let output: Output =
        Command::new("ip").args(arguments).output().await.map_err(NetworkError::NoTool)?;
    if output.status.success() {
        return Ok(());
    }
    Err(NetworkError::Refused {
        arguments: arguments.join(" "),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fixed_by_the_machine_and_fit() {
        let vm: VmId = "6f1c1f2e-0000-4000-8000-000000000001".parse().unwrap();
        let other: VmId = "6f1c1f2e-0000-4000-8000-000000000002".parse().unwrap();
        assert_eq!(mac_address(vm), mac_address(vm));
        assert_ne!(mac_address(vm), mac_address(other));
        assert_eq!(mac_address(vm).len(), 17);
        assert_eq!(tap_name(vm).len(), 15);
        assert_ne!(tap_name(vm), tap_name(other));
    }
}
