//! Whether this host can run machines, and how.

use std::path::{Path, PathBuf};

use novacron_protocol::node::Accelerator;
use novacron_protocol::qemu::QemuVersion;
use tokio::process::Command;

/// The oldest QEMU that is used: the first whose switchover says on the wire that the guest stands still.
const QEMU_MAJOR_MIN: u32 = 10;

/// The machine type of new machines: the newest that every QEMU from [`QEMU_MAJOR_MIN`] on has, so that any two nodes
/// have it in common.
const MACHINE_TYPE: &str = "pc-q35-10.0";

/// Why there is no usable QEMU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QemuProblem {
    /// It cannot be run.
    #[error(
        "QEMU is missing on this node: {} cannot be run ({problem}); install qemu-system-x86 {QEMU_MAJOR_MIN} or \
         newer, or set qemu_binary, and restart the agent",
        binary.display()
    )]
    Missing {
        /// The program.
        binary: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// It is too old, or is no QEMU.
    #[error(
        "QEMU on this node is too old: {} says `{version}`, {QEMU_MAJOR_MIN}.0 or newer is needed (Debian 12 has it \
         in bookworm-backports); restart the agent afterwards",
        binary.display()
    )]
    TooOld {
        /// The program.
        binary: PathBuf,
        /// What it said.
        version: String,
    },
}

/// This host cannot run machines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Unfit(#[from] QemuProblem);

/// What this host can run; found out once, when the agent starts.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    /// QEMU's version, or why there is none.
    pub qemu: Result<QemuVersion, QemuProblem>,
    /// What runs guests' instructions.
    pub accelerator: Accelerator,
    /// Why this and no better one, in one line.
    pub accelerator_reason: String,
}

impl Hypervisor {
    /// Checks that machines can run here.
    ///
    /// # Errors
    /// [`Unfit`], in the words of an operator.
    pub fn check(&self) -> Result<QemuVersion, Unfit> {
        self.qemu.clone().map_err(Unfit)
    }

    /// The machine type of a machine that is made now.
    pub fn machine_type(&self) -> &'static str {
        MACHINE_TYPE
    }
}

/// Asks QEMU for its version.
///
/// # Errors
/// [`QemuProblem`].
pub async fn look_for_qemu(binary: &Path) -> Result<QemuVersion, QemuProblem> {
    let missing = |problem| QemuProblem::Missing { binary: binary.to_owned(), problem };
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .await
        .map_err(|error| missing(error.to_string()))?;
    if !output.status.success() {
        return Err(missing(output.status.to_string()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let first_line = text.lines().next().unwrap_or_default();
    match parse_version(first_line) {
        Some(version) if version.major >= QEMU_MAJOR_MIN => Ok(version),
        _ => Err(QemuProblem::TooOld {
            binary: binary.to_owned(),
            version: first_line.chars().take(80).collect(),
        }),
    }
}

/// `QEMU emulator version 10.0.2 (Debian …)`.
fn parse_version(line: &str) -> Option<QemuVersion> {
    let version = line.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    let mut numbers = version.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(QemuVersion { major: next()?, minor: next()?, micro: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_qemu_says() {
        let version = parse_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)").unwrap();
        assert_eq!(version.to_string(), "10.0.2");
        assert_eq!(parse_version("QEMU emulator version 7.2.19 (Debian)").unwrap().major, 7);
        for other in ["", "QEMU", "QEMU emulator version x.y.z", "QEMU emulator version 10"] {
            assert_eq!(parse_version(other), None);
        }
    }

    #[tokio::test]
    async fn a_missing_or_foreign_program_is_named() {
        let missing = look_for_qemu(Path::new("/nowhere/qemu")).await.unwrap_err().to_string();
        assert!(missing.contains("/nowhere/qemu") && missing.contains("install"), "{missing}");
        let foreign = look_for_qemu(Path::new("echo")).await.unwrap_err().to_string();
        assert!(foreign.contains("too old"), "{foreign}");
    }
}
