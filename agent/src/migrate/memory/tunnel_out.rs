//! The source's end of the byte-exact tunnel.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
use novacron_protocol::session::tunnel::{PIECE_BYTES_MAX, TunnelEncoder, TunnelError};

use super::outgoing::OutgoingShared;
use crate::migrate::relay::{Outlet, OutletError};

/// Why the tunnel cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelOutError {
    #[error("QEMU's migration channel failed")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Encode(#[from] TunnelError),
    #[error(transparent)]
    Outlet(#[from] OutletError),
}

/// The tunnel; run on a thread of its own.
pub(super) struct TunnelOut {
    pub socket: UnixStream,
    pub stream: Outlet,
    pub shared: Arc<OutgoingShared>,
}

impl TunnelOut {
    /// Until QEMU closes the channel.
    pub(super) fn run(mut self) -> Result<(), TunnelOutError> {
        let mut encoder = TunnelEncoder::new()?;
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            let count = self.socket.read(&mut piece).map_err(TunnelOutError::Socket)?;
            if count == 0 {
                break;
            }
            let frame = encoder.encode(&piece[..count])?;
            self.shared.counters.count_tunnel(count, frame.len());
            self.stream.send(Bytes::from(frame))?;
        }
        self.stream.finish();
        Ok(())
    }
}
