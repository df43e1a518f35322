//! Streams that the coordinator opens: consoles.

use bytes::Bytes;
use novacron_protocol::effect::{StreamRequest, StreamResponse};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_transport::FrameError;
use novacron_transport::connection::FramedStream;

use crate::vm::Machines;

/// Bytes of the largest frame before the plain bytes begin.
pub(super) const FRAME_BYTES_MAX: usize = StreamRequest::BYTES_MAX + 2;

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the console failed")]
    Console(#[from] std::io::Error),
}

/// Serves one stream to its end.
pub(super) async fn serve(
    (mut send, mut receive): FramedStream,
    machines: &Machines,
) -> Result<(), StreamError> {
    let Some(request) = receive.receive().await? else { return Ok(()) };
    let StreamRequest::Console { vm, from_offset, follow } = codec::decode(&request)?;
    let Some(console) = machines.console(vm, from_offset, follow) else {
        let reason = format!("machine {vm} is not on this node");
        send.send(encoded(&StreamResponse::Refused { reason })?).await?;
        return Ok(send.finish().await?);
    };
    send.send(encoded(&StreamResponse::Open)?).await?;
    let (mut output, (mut input, _)) = (send.into_inner(), receive.into_inner());
    console.serve(&mut output, &mut input).await?;
    // The peer may be gone already; then there is nobody to tell of the end.
    let _ = output.finish();
    Ok(())
}

fn encoded(response: &StreamResponse) -> Result<Bytes, CodecError> {
    codec::encode(response).map(Bytes::from)
}
