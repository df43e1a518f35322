//! What a disk of the target holds before anything is sent to it.

use std::os::unix::net::UnixStream;

use novacron_protocol::disk::{BLOCK_BYTES, DiskContent, Record, RunContent};
use tokio_util::sync::CancellationToken;

use super::flusher::Flusher;
use super::nbd::{CHUNK_BYTES, ClientError, NbdClient};
use crate::vm::Extents;

/// A disk that can be written, and what is known of it.
#[derive(Debug)]
pub(super) struct Held {
    pub client: NbdClient<UnixStream>,
    pub flusher: Flusher,
    pub content: DiskContent,
}

/// Reads where there may be something, so that what is known is what is there.
pub(super) async fn read(
    held: Held,
    extents: Extents,
    stop: CancellationToken,
) -> Result<Held, ClientError> {
    let reading = tokio::task::spawn_blocking(move || read_all(held, &extents, &stop));
    reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

fn read_all(
    mut held: Held,
    extents: &Extents,
    stop: &CancellationToken,
) -> Result<Held, ClientError> {
    let size_bytes = held.client.size_bytes();
    let mut room = vec![0; CHUNK_BYTES].into_boxed_slice();
    for (offset, length) in extents.pieces((CHUNK_BYTES / BLOCK_BYTES) as u64) {
        if stop.is_cancelled() {
            return Err(std::io::Error::other("the migration is over").into());
        }
        // An extent ends with the disk at the latest: then there is nothing to read, or less.
        let length = length.min(size_bytes.saturating_sub(offset)) as usize;
        let data = &mut room[..length];
        if data.is_empty() {
            continue;
        }
        held.client.read(offset, data)?;
        let outside = held.content.apply(&Record { offset, content: RunContent::Data(data) });
        outside.map_err(std::io::Error::other)?;
    }
    Ok(held)
}
