//! The serial console's log goes with its machine: most of it while the guest runs, the last lines when it stands
//! still, so that offsets into the log mean the same at both ends.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use novacron_protocol::session::message::StreamHeader;
use novacron_transport::{Connection, FrameError, FramedRecv, FramedSend};
use quinn::{RecvStream, SendStream};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::memory::{OutgoingError, open};

/// Bytes of the log in one frame.
const LOG_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Why the log did not travel.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsoleLogError {
    /// It cannot be read or written here.
    #[error("the console log cannot be read or written")]
    File(#[from] io::Error),
    /// Its stream cannot be opened.
    #[error(transparent)]
    Open(#[from] OutgoingError),
    /// Its stream failed.
    #[error("the stream of the console log failed")]
    Stream(#[from] FrameError),
}

/// The log on its way out.
#[derive(Debug)]
pub(super) struct OutgoingLog {
    file: Option<File>,
    sent_bytes: u64,
    stream: FramedSend<SendStream>,
}

impl OutgoingLog {
    /// Opens the stream, and the log if there is one.
    pub(super) async fn begin(
        connection: &Connection,
        path: &Path,
    ) -> Result<Self, ConsoleLogError> {
        let file = match File::open(path).await {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let stream = open(connection, StreamHeader::ConsoleLog, LOG_FRAME_BYTES_MAX).await?;
        Ok(Self { file, sent_bytes: 0, stream })
    }

    /// Sends what was written between the last call and this one. A guest that writes faster than the link carries
    /// does not keep it for ever.
    pub(super) async fn send_new(&mut self) -> Result<(), ConsoleLogError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written_bytes = file.metadata().await?.len();
        while self.sent_bytes < written_bytes {
            let mut piece = BytesMut::with_capacity(LOG_FRAME_BYTES_MAX);
            let count = file.take(LOG_FRAME_BYTES_MAX as u64).read_buf(&mut piece).await?;
            if count == 0 {
                break;
            }
            self.sent_bytes += count as u64;
            self.stream.send(Bytes::from(piece)).await?;
        }
        Ok(())
    }

    /// Sends the rest, after the guest stopped.
    pub(super) async fn finish(mut self) -> Result<(), ConsoleLogError> {
        self.send_new().await?;
        Ok(self.stream.finish().await?)
    }
}

/// Writes what comes to the log at `path`, before anything that the guest will write there itself.
pub(super) async fn receive(
    mut stream: FramedRecv<RecvStream>,
    path: PathBuf,
) -> Result<(), ConsoleLogError> {
    let mut log = OpenOptions::new().append(true).create(true).open(path).await?;
    while let Some(piece) = stream.receive().await? {
        log.write_all(&piece).await?;
    }
    Ok(log.flush().await?)
}
