//! The serial console's log goes with its machine: most of it while the guest runs, the last lines when it stands
//! still, so that offsets into the log mean the same at both ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use novacron_protocol::session::message::StreamHeader;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::relay::{Inlet, InletError, Outlet, OutletError, Outlets};

/// Bytes of the log in one frame.
const LOG_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Why the log did not travel.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsoleLogError {
    /// It cannot be read or written here.
    #[error("the console log cannot be read or written")]
    File(#[from] io::Error),
    /// Its stream cannot go on at the source.
    #[error(transparent)]
    Outlet(#[from] OutletError),
    /// Its stream cannot go on at the target.
    #[error(transparent)]
    Inlet(#[from] InletError),
}

/// The log on its way out.
#[derive(Debug)]
pub(super) struct OutgoingLog {
    file: Option<File>,
    outlet: Outlet,
}

impl OutgoingLog {
    /// Opens the stream, and the log if there is one.
    pub(super) fn begin(outlets: &mut Outlets, path: &Path) -> Result<Self, ConsoleLogError> {
        let file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let outlet = outlets.open(StreamHeader::ConsoleLog, LOG_FRAME_BYTES_MAX);
        Ok(Self { file, outlet })
    }

    /// Sends what was written since the last call, as far as the stream has room: never waits.
    pub(super) fn send_new(&mut self) -> Result<(), ConsoleLogError> {
        while self.outlet.has_room() && self.send_piece()? {}
        Ok(())
    }

    /// Sends the rest, after the guest stopped. Blocks the thread while the stream has no room.
    pub(super) fn finish(mut self) -> Result<(), ConsoleLogError> {
        while self.send_piece()? {}
        self.outlet.finish();
        Ok(())
    }

    /// Whether there was one.
    fn send_piece(&mut self) -> Result<bool, ConsoleLogError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let mut piece = vec![0; LOG_FRAME_BYTES_MAX];
        let count = file.read(&mut piece)?;
        if count > 0 {
            piece.truncate(count);
            self.outlet.send(Bytes::from(piece))?;
        }
        Ok(count > 0)
    }
}

/// Writes what comes to the log at `path`, before anything that the guest will write there itself.
pub(super) async fn receive(mut inlet: Inlet, path: PathBuf) -> Result<(), ConsoleLogError> {
    let mut log = OpenOptions::new().append(true).create(true).open(path).await?;
    while let Some(piece) = inlet.receive().await? {
        log.write_all(&piece).await?;
    }
    Ok(log.flush().await?)
}
