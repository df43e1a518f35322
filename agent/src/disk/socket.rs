//! The unix socket between a mirror of QEMU and the agent. It has a name only until QEMU has connected.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;

use super::DiskError;

/// How long QEMU may take to connect to a socket that it was told of: it does so at once.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Where QEMU's mirror connects to, once.
pub(super) struct MirrorSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl MirrorSocket {
    pub(super) fn bind(path: &Path) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Listen { path: path.to_owned(), source };
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where QEMU shall connect.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&self) -> Result<UnixStream, DiskError> {
        let failed = |source| DiskError::Listen { path: self.path.clone(), source };
        let accepted = tokio::time::timeout(CONNECT_DEADLINE, self.listener.accept()).await;
        let seconds = CONNECT_DEADLINE.as_secs();
        let what = "connect its mirror to the agent";
        let (stream, _) =
            accepted.map_err(|_| DiskError::Deadline { what, seconds })?.map_err(failed)?;
        let stream = stream.into_std().map_err(failed)?;
        stream.set_nonblocking(false).map_err(failed)?;
        Ok(stream)
    }
}

impl Drop for MirrorSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
