//! The unix sockets between a QEMU and its agent.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;

/// Why QEMU did not connect.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket cannot be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A connection could not be taken.
    #[error("cannot accept QEMU's migration channel")]
    Accept(#[source] io::Error),
    /// QEMU opened fewer channels than it was told to.
    #[error("QEMU opened {opened} of {wanted} migration channels within {seconds} s")]
    TooFew {
        /// Channels opened.
        opened: usize,
        /// Channels wanted.
        wanted: usize,
        /// How long it was waited.
        seconds: u64,
    },
}

/// Where the source's QEMU connects to.
#[derive(Debug)]
pub struct QemuSockets {
    listener: UnixListener,
    path: PathBuf,
}

/// How long QEMU may take to read the few bytes of its return path: it waits for them. Whoever writes is a task that
/// must not block.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long QEMU may take to open its channels: it does so at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

impl QemuSockets {
    /// Listens at `path`, in a directory that only this user may enter.
    ///
    /// # Errors
    /// [`SocketError::Listen`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)
            .map_err(|source| SocketError::Listen { path: path.to_owned(), source })?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where QEMU shall connect.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes `count` connections; the first is the main channel, because QEMU opens it first.
    ///
    /// # Errors
    /// [`SocketError`] if they do not come.
    pub async fn accept(self, count: usize) -> Result<Vec<UnixStream>, SocketError> {
        let mut streams = Vec::with_capacity(count);
        let accept_all = async {
            while streams.len() < count {
                let (stream, _) = self.listener.accept().await.map_err(SocketError::Accept)?;
                streams.push(blocking(stream).map_err(SocketError::Accept)?);
            }
            Ok(())
        };
        match tokio::time::timeout(OPEN_TIMEOUT, accept_all).await {
            Ok(accepted) => accepted.map(|()| streams),
            Err(_) => Err(SocketError::TooFew {
                opened: streams.len(),
                wanted: count,
                seconds: OPEN_TIMEOUT.as_secs(),
            }),
        }
    }
}

impl Drop for QemuSockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn blocking(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Ends whatever is waiting for these sockets, on both sides.
pub(super) fn shut_all(streams: &[UnixStream]) {
    for stream in streams {
        // Already closed by the other side: nothing is waiting.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
