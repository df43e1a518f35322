//! What travels on the main stream of a migration: QEMU's rewritten main channel in pieces, and the one barrier that
//! the target must respect.
//!
//! A frame is one tag byte and its content. `bytes`: goes to the target's QEMU as it is. `barrier`: the number of
//! page batches of each lane, `u64` little-endian each; nothing after it may reach QEMU before so many batches of
//! each lane are applied, because loading devices touches guest memory.

use super::message::LANES_MAX;

const TAG_BYTES: u8 = 0;
const TAG_BARRIER: u8 = 1;

/// Bytes of one frame at most: the tag and what one step of the rewriter puts out.
pub const MAIN_FRAME_BYTES_MAX: usize = 1 << 20;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MainFrame<'a> {
    /// For the target's QEMU.
    Bytes(&'a [u8]),
    /// Wait until this many batches of each lane are applied.
    Barrier {
        /// Batches by lane.
        lane_batches: Vec<u64>,
    },
}

/// A frame that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame of {bytes} bytes on the main stream")]
pub struct MalformedFrame {
    /// Its length.
    pub bytes: usize,
}

impl<'a> MainFrame<'a> {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => [&[TAG_BYTES], *bytes].concat(),
            Self::Barrier { lane_batches } => {
                let mut encoded = vec![TAG_BARRIER];
                lane_batches.iter().for_each(|count| encoded.extend(count.to_le_bytes()));
                encoded
            }
        }
    }

    /// The frame in `bytes`.
    ///
    /// # Errors
    /// [`MalformedFrame`] for an unknown tag, a cut number or too many lanes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedFrame> {
        let malformed = MalformedFrame { bytes: bytes.len() };
        match bytes.split_first() {
            Some((&TAG_BYTES, content)) => Ok(Self::Bytes(content)),
            Some((&TAG_BARRIER, content)) => {
                let (numbers, rest) = content.as_chunks();
                if !rest.is_empty() || numbers.len() > usize::from(LANES_MAX) {
                    return Err(malformed);
                }
                let lane_batches = numbers.iter().map(|&number| u64::from_le_bytes(number));
                Ok(Self::Barrier { lane_batches: lane_batches.collect() })
            }
            _ => Err(malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_frames_come_back() {
        let bytes = MainFrame::Bytes(b"ab");
        assert_eq!(bytes.encode(), b"\x00ab");
        let barrier = MainFrame::Barrier { lane_batches: vec![1, 258] };
        assert_eq!(barrier.encode(), b"\x01\x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
        for frame in [bytes, barrier] {
            assert_eq!(MainFrame::decode(&frame.encode()).unwrap(), frame);
        }
    }

    #[test]
    fn malformed_frames_are_refused() {
        let too_many_lanes = [&[TAG_BARRIER][..], &[0; 8 * 17]].concat();
        for bad in [&b""[..], b"\x02", b"\x01abc", &too_many_lanes] {
            assert!(MainFrame::decode(bad).is_err());
        }
    }
}
