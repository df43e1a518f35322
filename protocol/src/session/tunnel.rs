//! The byte-exact tunnel: QEMU's main channel as it is, for versions whose stream is not understood.
//!
//! A frame is 16 bytes of hash and a piece of the stream as one zstd frame. The hash is BLAKE3, cut, over all bytes of
//! the stream up to the end of the piece: a piece that is damaged, missing, repeated or out of order is noticed at
//! once, before QEMU sees a byte of it.

use std::io;

/// Bytes of the stream in one frame: what one read of QEMU's socket gives at most.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;

const HASH_BYTES: usize = 16;

/// Bytes of a frame at most; zstd adds less than 1/128 and a header.
pub const TUNNEL_FRAME_BYTES_MAX: usize =
    HASH_BYTES + PIECE_BYTES_MAX + PIECE_BYTES_MAX / 128 + 1024;

/// zstd's level for the tunnel.
const LEVEL: i32 = 1;

/// Why a frame is refused.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// It is shorter than its hash.
    #[error("a frame of {bytes} bytes on the tunnel is too short")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// It is not a zstd frame of at most [`PIECE_BYTES_MAX`] bytes.
    #[error("a frame on the tunnel cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// The stream so far is not what was sent.
    #[error("verification failed: the tunnelled stream is damaged before byte {offset}")]
    Damaged {
        /// Bytes of the stream up to the end of this piece.
        offset: u64,
    },
    /// zstd has no memory.
    #[error("zstd cannot be set up")]
    Context(#[source] io::Error),
}

/// The sending end.
pub struct TunnelEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    hasher: blake3::Hasher,
}

/// The receiving end.
pub struct TunnelDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    hasher: blake3::Hasher,
    offset: u64,
}

impl TunnelEncoder {
    /// An encoder at the first byte.
    ///
    /// # Errors
    /// [`TunnelError::Context`].
    pub fn new() -> Result<Self, TunnelError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(TunnelError::Context)?;
        Ok(Self { compressor, hasher: blake3::Hasher::new() })
    }

    /// The frame of the next piece, of at most [`PIECE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`TunnelError::Context`] if zstd has no memory.
    pub fn encode(&mut self, piece: &[u8]) -> Result<Vec<u8>, TunnelError> {
        self.hasher.update(piece);
        let compressed = self.compressor.compress(piece).map_err(TunnelError::Context)?;
        Ok([&self.hasher.finalize().as_bytes()[..HASH_BYTES], &compressed].concat())
    }
}

impl TunnelDecoder {
    /// A decoder at the first byte.
    ///
    /// # Errors
    /// [`TunnelError::Context`].
    pub fn new() -> Result<Self, TunnelError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(TunnelError::Context)?;
        Ok(Self { decompressor, hasher: blake3::Hasher::new(), offset: 0 })
    }

    /// The piece in a frame.
    ///
    /// # Errors
    /// [`TunnelError`]; the tunnel is of no use afterwards.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Vec<u8>, TunnelError> {
        let (hash, compressed) = frame
            .split_first_chunk::<HASH_BYTES>()
            .ok_or(TunnelError::TooShort { bytes: frame.len() })?;
        let piece = self
            .decompressor
            .decompress(compressed, PIECE_BYTES_MAX)
            .map_err(TunnelError::Decompress)?;
        self.hasher.update(&piece);
        self.offset += piece.len() as u64;
        if self.hasher.finalize().as_bytes()[..HASH_BYTES] != hash[..] {
            return Err(TunnelError::Damaged { offset: self.offset });
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut encoder = TunnelEncoder::new().unwrap();
        pieces.iter().map(|piece| encoder.encode(piece).unwrap()).collect()
    }

    fn pieces() -> Vec<Vec<u8>> {
        (0..5_u32).map(|at| at.to_le_bytes().repeat(1000)).collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut decoder = TunnelDecoder::new().unwrap();
        for (piece, frame) in pieces().iter().zip(frames(&pieces())) {
            assert_eq!(&decoder.decode(&frame).unwrap(), piece);
        }
    }

    #[test]
    fn damage_loss_and_disorder_are_noticed_at_once() {
        let good = frames(&pieces());
        let mut decoder = TunnelDecoder::new().unwrap();
        assert!(matches!(decoder.decode(&good[1]), Err(TunnelError::Damaged { offset: 4000 })));
        for at in 0..good[0].len() {
            let mut damaged = good[0].clone();
            damaged[at] ^= 1;
            assert!(TunnelDecoder::new().unwrap().decode(&damaged).is_err(), "byte {at}");
        }
        assert!(matches!(
            TunnelDecoder::new().unwrap().decode(&[0; 3]),
            Err(TunnelError::TooShort { bytes: 3 })
        ));
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 4 * PIECE_BYTES_MAX], 3).unwrap();
        let frame = [&[0; HASH_BYTES][..], &bomb].concat();
        assert!(matches!(
            TunnelDecoder::new().unwrap().decode(&frame),
            Err(TunnelError::Decompress(_))
        ));
    }
}
