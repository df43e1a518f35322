//! What the target's QEMU says back on the main socket.
//!
//! Each message is a type, a length and data, big-endian. `SHUT` is the commit message of QEMU's
//! protocol: the source's QEMU completes when it has it, so the agents hold it until they agree.
//! Postcopy's messages are refused, above all `RECV_BITMAP`, which is followed by bytes that have
//! no framing.

use std::fmt;

/// Longest message in this subset: 4 bytes of framing, 4 of data.
pub const MESSAGE_BYTES_MAX: usize = 8;
const FRAMING_BYTES: usize = 4;

const SHUT: u16 = 1;
const PONG: u16 = 2;
const SWITCHOVER_ACK: u16 = 7;

/// A message of the return path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnMessage {
    /// Loading has ended; 0 is success.
    Shut {
        /// What the target reports.
        status: u32,
    },
    /// Answer to a PING.
    Pong {
        /// The PING's value.
        value: u32,
    },
    /// The target is ready for the switchover.
    SwitchoverAck,
}

impl ReturnMessage {
    /// Appends the message.
    pub fn encode(&self, output: &mut Vec<u8>) {
        let (kind, data) = match self {
            Self::Shut { status } => (SHUT, Some(*status)),
            Self::Pong { value } => (PONG, Some(*value)),
            Self::SwitchoverAck => (SWITCHOVER_ACK, None),
        };
        output.extend_from_slice(&kind.to_be_bytes());
        output.extend_from_slice(&(data.map_or(0, |_| 4_u16)).to_be_bytes());
        if let Some(data) = data {
            output.extend_from_slice(&data.to_be_bytes());
        }
    }
}

/// Not a message of this subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("return path message type {kind} with {length_bytes} bytes of data, at byte {offset}")]
pub struct ReturnPathError {
    /// Offset of the message in the return path.
    pub offset: u64,
    /// Type on the wire.
    pub kind: u16,
    /// Announced length of its data.
    pub length_bytes: u16,
}

/// Push parser of the return path; holds at most one unfinished message.
#[derive(Clone, Default)]
pub struct ReturnPathParser {
    held: [u8; MESSAGE_BYTES_MAX],
    held_bytes: usize,
    offset: u64,
}

impl fmt::Debug for ReturnPathParser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = &self.held[..self.held_bytes];
        formatter.debug_struct("ReturnPathParser").field("held", &held).finish_non_exhaustive()
    }
}

impl ReturnPathParser {
    /// A parser at the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `chunk` up to the end of a message, and returns the message;
    /// `None` when the chunk is used up. To be called until then.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Result<Option<ReturnMessage>, ReturnPathError> {
        if !self.hold(FRAMING_BYTES, chunk) {
            return Ok(None);
        }
        let (kind, length_bytes) = self.framing();
        if !matches!((kind, length_bytes), (SHUT | PONG, 4) | (SWITCHOVER_ACK, 0)) {
            return Err(ReturnPathError { offset: self.offset, kind, length_bytes });
        }
        let message_bytes = FRAMING_BYTES + usize::from(length_bytes);
        if !self.hold(message_bytes, chunk) {
            return Ok(None);
        }
        self.held_bytes = 0;
        self.offset += message_bytes as u64;
        Ok(Some(match kind {
            SHUT => ReturnMessage::Shut { status: self.data() },
            PONG => ReturnMessage::Pong { value: self.data() },
            _ => ReturnMessage::SwitchoverAck,
        }))
    }

    /// Whether the path may end here: no message is unfinished.
    pub fn is_at_boundary(&self) -> bool {
        self.held_bytes == 0
    }

    /// Moves bytes from `chunk` until `wanted` are held; whether they are.
    fn hold(&mut self, wanted: usize, chunk: &mut &[u8]) -> bool {
        let missing = wanted.saturating_sub(self.held_bytes);
        let (taken, rest) = chunk.split_at(missing.min(chunk.len()));
        self.held[self.held_bytes..self.held_bytes + taken.len()].copy_from_slice(taken);
        self.held_bytes += taken.len();
        *chunk = rest;
        self.held_bytes >= wanted
    }

    /// Type and length of data.
    fn framing(&self) -> (u16, u16) {
        let [kind_high, kind_low, length_high, length_low, ..] = self.held;
        let kind = u16::from_be_bytes([kind_high, kind_low]);
        (kind, u16::from_be_bytes([length_high, length_low]))
    }

    fn data(&self) -> u32 {
        let [_, _, _, _, data @ ..] = self.held;
        u32::from_be_bytes(data)
    }
}
