//! A connection whose peer has been verified.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionError, VarInt};

/// The two halves of a stream, as quinn gives them: `AsyncRead`, `AsyncWrite`, priority, reset and stop.
pub use quinn::{RecvStream, SendStream};

use crate::counters::Counters;
use crate::frames::{FrameError, FramedRecv, FramedSend};
use crate::identity::{Identity, IdentityError, Role};

/// Why one side closed a connection: the application error code on the wire. Codes are never used again for
/// something else; an unknown code is shown as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// The work is done, or the program ends.
    Done,
    /// The certificate is good, but its role or name is not welcome here.
    IdentityRefused,
    /// A frame was oversized or cut off.
    BadFrame,
    /// A frame held no message that makes sense here.
    BadMessage,
    /// Not the application protocol that was asked for.
    BadProtocol,
    /// The peer stopped answering within the exchange's deadline.
    TimedOut,
    /// Another connection of the same peer has taken this one's place.
    Replaced,
    /// The peer should turn to another coordinator: this one does not lead.
    NotLeader,
    /// Too much of everything at the moment; try again later.
    Overloaded,
    /// A code that this build does not know.
    Other(u64),
}

const CODES: [(CloseCode, u32); 9] = [
    (CloseCode::Done, 0),
    (CloseCode::IdentityRefused, 1),
    (CloseCode::BadFrame, 2),
    (CloseCode::BadMessage, 3),
    (CloseCode::BadProtocol, 4),
    (CloseCode::TimedOut, 5),
    (CloseCode::Replaced, 6),
    (CloseCode::NotLeader, 7),
    (CloseCode::Overloaded, 8),
];

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Done => "done",
            Self::IdentityRefused => "identity refused",
            Self::BadFrame => "bad frame",
            Self::BadMessage => "bad message",
            Self::BadProtocol => "other protocol",
            Self::TimedOut => "timed out",
            Self::Replaced => "replaced",
            Self::NotLeader => "not the leader",
            Self::Overloaded => "overloaded",
            Self::Other(number) => return write!(formatter, "code {number}"),
        })
    }
}

impl CloseCode {
    fn to_wire(self) -> VarInt {
        if let CloseCode::Other(number) = self {
            return VarInt::from_u64(number).unwrap_or(VarInt::MAX);
        }
        let known = CODES.into_iter().find(|(code, _)| *code == self);
        known.map_or(VarInt::MAX, |(_, number)| VarInt::from_u32(number))
    }

    fn from_wire(number: VarInt) -> Self {
        let number = number.into_inner();
        let known = CODES.into_iter().find(|(_, known)| u64::from(*known) == number);
        known.map_or(CloseCode::Other(number), |(code, _)| code)
    }
}

/// How a connection ended, seen from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// This side closed it.
    #[error("closed by this side")]
    Here,
    /// The peer closed it and said why.
    #[error("closed by the peer ({code}): {reason}")]
    ByPeer {
        /// Why.
        code: CloseCode,
        /// Why, for a person.
        reason: String,
    },
    /// Nothing came for the idle timeout: the peer or the path is gone.
    #[error("nothing came from the peer within the idle timeout")]
    Lost,
    /// The peer's process is another one than that which opened the connection, and told us so.
    #[error("the peer was started again")]
    Restarted,
    /// QUIC or TLS failed: for example, the peer did not accept our certificate.
    #[error("the transport failed")]
    Transport(#[source] ConnectionError),
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Closed::Here,
            ConnectionError::TimedOut => Closed::Lost,
            ConnectionError::Reset => Closed::Restarted,
            ConnectionError::ApplicationClosed(close) => Closed::ByPeer {
                code: CloseCode::from_wire(close.error_code),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => Closed::Transport(other),
        }
    }
}

/// A two-way stream of frames.
pub type FramedStream = (FramedSend<SendStream>, FramedRecv<RecvStream>);

/// A connection with a peer of the same cluster whose certificate, role and protocol have been checked. Cheap
/// to clone; the connection lives until it is closed, lost, or its last handle and stream are dropped.
#[derive(Clone)]
pub struct Connection {
    quic: quinn::Connection,
    peer: Arc<Identity>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Connection({} at {})", self.peer, self.remote_address())
    }
}

impl Connection {
    pub(crate) fn new(quic: quinn::Connection, peer: Identity, counters: Arc<Counters>) -> Self {
        counters.connections_opened.increment();
        Self { quic, peer: Arc::new(peer), counters }
    }

    /// Who the peer has proven to be.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// The peer, if its role is one of those that may do what it asks for.
    ///
    /// # Errors
    /// [`IdentityError::RoleNotAllowed`]; the connection stays open, the refusal is the caller's to send.
    pub fn require_role(&self, allowed: &[Role]) -> Result<&Identity, IdentityError> {
        self.peer.require_role(allowed)?;
        Ok(&self.peer)
    }

    /// Where the peer is at the moment.
    pub fn remote_address(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// The path's smoothed round trip.
    pub fn round_trip(&self) -> Duration {
        self.quic.rtt()
    }

    /// Bytes of UDP payload sent and received so far, and everything else that QUIC counts.
    pub fn statistics(&self) -> quinn::ConnectionStats {
        self.quic.stats()
    }

    /// Opens a two-way stream. The peer sees it when the first bytes are sent. Waits while the peer's limit of
    /// open streams is reached. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        Ok(self.quic.open_bi().await?)
    }

    /// The next two-way stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        Ok(self.quic.accept_bi().await?)
    }

    /// Opens a one-way stream: a lane. As [`Self::open_bi`].
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn open_uni(&self) -> Result<SendStream, Closed> {
        Ok(self.quic.open_uni().await?)
    }

    /// The next one-way stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn accept_uni(&self) -> Result<RecvStream, Closed> {
        Ok(self.quic.accept_uni().await?)
    }

    /// Opens a two-way stream of frames of at most `frame_bytes_max` bytes each way. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn open_frames(&self, frame_bytes_max: usize) -> Result<FramedStream, Closed> {
        let (send, receive) = self.open_bi().await?;
        Ok((FramedSend::new(send, frame_bytes_max), self.framed(receive, frame_bytes_max)))
    }

    /// The next two-way stream that the peer opens, as frames. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn accept_frames(&self, frame_bytes_max: usize) -> Result<FramedStream, Closed> {
        let (send, receive) = self.accept_bi().await?;
        Ok((FramedSend::new(send, frame_bytes_max), self.framed(receive, frame_bytes_max)))
    }

    /// Frames on a stream of this connection; a frame that breaks the rules is counted and closes it.
    pub fn framed(&self, stream: RecvStream, frame_bytes_max: usize) -> FramedRecv<RecvStream> {
        FramedRecv::new(stream, frame_bytes_max).reporting_to(self.violations())
    }

    /// Counts a message of the peer that makes no sense and closes the connection. For frames whose bytes are
    /// no message; broken frames are reported by themselves.
    pub fn refuse_message(&self, reason: &str) {
        self.violations().close(CloseCode::BadMessage, reason);
    }

    /// Closes at once: what is still unsent is lost. The first close counts, later ones do nothing.
    pub fn close(&self, code: CloseCode, reason: &str) {
        close(&self.quic, code, reason);
    }

    /// Waits until the connection has ended, and says how. Cancel-safe.
    pub async fn closed(&self) -> Closed {
        self.quic.closed().await.into()
    }

    /// How the connection ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.quic.close_reason().map(Closed::from)
    }

    fn violations(&self) -> Violations {
        Violations { quic: self.quic.clone(), counters: Arc::clone(&self.counters) }
    }
}

/// Where a stream reports that its peer broke the rules.
#[derive(Debug, Clone)]
pub(crate) struct Violations {
    quic: quinn::Connection,
    counters: Arc<Counters>,
}

impl Violations {
    pub(crate) fn report(&self, error: &FrameError) {
        match error {
            FrameError::TooLong { .. } | FrameError::CutOff { .. } => {
                self.close(CloseCode::BadFrame, &error.to_string());
            }
            FrameError::Stream(_) => {}
        }
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.counters.violations.increment();
        tracing::warn!(peer = %self.quic.remote_address(), ?code, reason, "peer broke the protocol");
        close(&self.quic, code, reason);
    }
}

/// Bytes of a reason on the wire, well within one packet.
const REASON_BYTES_MAX: usize = 512;

pub(crate) fn close(quic: &quinn::Connection, code: CloseCode, reason: &str) {
    quic.close(code.to_wire(), on_wire(reason));
}

pub(crate) fn close_all(endpoint: &quinn::Endpoint, code: CloseCode, reason: &str) {
    endpoint.close(code.to_wire(), on_wire(reason));
}

fn on_wire(reason: &str) -> &[u8] {
    &reason.as_bytes()[..reason.len().min(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_and_unknown_ones_stay_numbers() {
        for (code, number) in CODES {
            assert_eq!(CloseCode::from_wire(code.to_wire()), code);
            assert_eq!(u64::from(code.to_wire()), u64::from(number));
        }
        let unknown = CloseCode::Other(4711);
        assert_eq!(CloseCode::from_wire(unknown.to_wire()), unknown);
    }
}
