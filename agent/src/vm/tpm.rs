//! A machine's TPM 2.0: one swtpm beside its QEMU, which ends when QEMU closes the control socket.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::directories::MachineDirectories;
use super::process::Process;

/// Why a machine cannot have a TPM here.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// There is no swtpm.
    #[error(
        "enable_tpm: {} is not on this node; install swtpm, set swtpm_binary, or make the machine without a TPM",
        binary.display()
    )]
    Missing {
        /// The program.
        binary: PathBuf,
    },
    /// swtpm said no.
    #[error("swtpm failed: {0}")]
    Refused(String),
    /// The state's directory.
    #[error("the TPM's state cannot be kept in {}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Where a program is: as named if it has a slash, else the first in `PATH`.
pub fn find_program(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Checks that a machine can have a TPM here.
///
/// # Errors
/// [`TpmError::Missing`].
pub fn check(binary: &Path) -> Result<(), TpmError> {
    match find_program(binary) {
        Some(_) => Ok(()),
        None => Err(TpmError::Missing { binary: binary.to_owned() }),
    }
}

/// Starts the TPM; it listens when this returns.
///
/// # Errors
/// [`TpmError`].
pub async fn start(binary: &Path, directories: &MachineDirectories) -> Result<(), TpmError> {
    check(binary)?;
    let state = directories.tpm_state();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .map_err(|source| TpmError::State { path: state.clone(), source })?;
    let output = Command::new(binary)
        .args(["socket", "--tpm2", "--daemon", "--terminate", "--tpmstate"])
        .arg(word("dir=", &state))
        .arg("--ctrl")
        .arg(word("type=unixio,path=", &directories.tpm_socket()))
        .arg("--pid")
        .arg(mark(directories))
        .output()
        .await
        .map_err(|error| TpmError::Refused(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(TpmError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Ends the machine's TPM if it is still there: QEMU may never have connected.
pub async fn end(directories: &MachineDirectories) {
    match Process::find(&mark(directories)) {
        Ok(Some(process)) => process.kill_and_wait().await,
        Ok(None) => (),
        Err(error) => tracing::error!(%error, "processes cannot be listed"),
    }
}

/// The argument by which the process is known.
fn mark(directories: &MachineDirectories) -> OsString {
    word("file=", &directories.tpm_pid())
}

fn word(prefix: &str, path: &Path) -> OsString {
    let mut word = OsString::from(prefix);
    word.push(path);
    word
}
