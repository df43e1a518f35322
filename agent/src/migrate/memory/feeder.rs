//! Between the main stream and the target's QEMU: bytes go in, except past the barrier, and the return path comes out.

use std::io;
use std::path::Path;

use novacron_protocol::qemu::return_path::{ReturnMessage, ReturnPathError, ReturnPathParser};
use novacron_protocol::session::main_stream::{MainFrame, MalformedFrame};
use novacron_protocol::session::tunnel::{TunnelDecoder, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::incoming::{IncomingEvent, IncomingForm, IncomingShared};
use crate::migrate::relay::{Inlet, InletError};

/// Why QEMU cannot be fed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Inlet(#[from] InletError),
    #[error(transparent)]
    Frame(#[from] MalformedFrame),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error("the target's QEMU does not take the migration stream")]
    Qemu(#[source] io::Error),
    #[error("the target's QEMU answers something that is not understood")]
    ReturnPath(#[from] ReturnPathError),
    #[error("the target's QEMU could not load the guest (status {0})")]
    NotLoaded(u32),
    #[error("the target's QEMU ended the migration before everything was loaded")]
    EndedEarly,
}

/// Until QEMU has loaded everything, or something failed.
pub(super) async fn run(
    stream: Inlet,
    qemu_socket: &Path,
    form: IncomingForm,
    shared: &IncomingShared,
) -> Result<(), FeedError> {
    shared.wait_ready().await;
    let qemu = UnixStream::connect(qemu_socket).await.map_err(FeedError::Qemu)?;
    let (from_qemu, to_qemu) = qemu.into_split();
    let mut answer = std::pin::pin!(read_return_path(from_qemu, shared));
    // QEMU's end stays open until QEMU has answered.
    let _qemu = tokio::select! {
        biased;
        answered = &mut answer => return answered,
        fed = feed(stream, to_qemu, form, shared) => fed?,
    };
    // The source ends its stream after QEMU's SHUT only; whichever is seen first, SHUT decides.
    answer.await
}

async fn feed(
    stream: Inlet,
    qemu: OwnedWriteHalf,
    form: IncomingForm,
    shared: &IncomingShared,
) -> Result<OwnedWriteHalf, FeedError> {
    match form {
        IncomingForm::Pages { .. } => feed_rewritten(stream, qemu, shared).await,
        IncomingForm::Tunnel => feed_tunnel(stream, qemu).await,
    }
}

async fn feed_rewritten(
    mut stream: Inlet,
    mut qemu: OwnedWriteHalf,
    shared: &IncomingShared,
) -> Result<OwnedWriteHalf, FeedError> {
    while let Some(frame) = stream.receive().await? {
        match MainFrame::decode(&frame)? {
            MainFrame::Bytes(bytes) => qemu.write_all(bytes).await.map_err(FeedError::Qemu)?,
            MainFrame::Barrier { lane_batches } => shared.wait_applied(&lane_batches).await,
        }
    }
    Ok(qemu)
}

async fn feed_tunnel(
    mut stream: Inlet,
    mut qemu: OwnedWriteHalf,
) -> Result<OwnedWriteHalf, FeedError> {
    let mut decoder = TunnelDecoder::new()?;
    while let Some(frame) = stream.receive().await? {
        // Decompressing a piece of 256 KiB takes about 0.2 ms; the reactor's other tasks can wait that long.
        let piece = decoder.decode(&frame)?;
        qemu.write_all(&piece).await.map_err(FeedError::Qemu)?;
    }
    Ok(qemu)
}

async fn read_return_path(
    mut qemu: OwnedReadHalf,
    shared: &IncomingShared,
) -> Result<(), FeedError> {
    let mut parser = ReturnPathParser::new();
    let mut buffer = [0; 512];
    loop {
        let count = qemu.read(&mut buffer).await.map_err(FeedError::Qemu)?;
        if count == 0 {
            return Err(FeedError::EndedEarly);
        }
        let mut chunk = &buffer[..count];
        while let Some(message) = parser.next(&mut chunk)? {
            match message {
                ReturnMessage::Shut { status: 0 } => {
                    shared.say(IncomingEvent::Loaded).await;
                    return Ok(());
                }
                ReturnMessage::Shut { status } => return Err(FeedError::NotLoaded(status)),
                other => {
                    let mut bytes = Vec::new();
                    other.encode(&mut bytes);
                    shared.say(IncomingEvent::ReturnPath(bytes)).await;
                }
            }
        }
    }
}
