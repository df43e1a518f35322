//! The one place that knows the binary codec: bincode 1.3.3, fixed-width little-endian integers, bounded.
//!
//! Every message and record is `version: u16 LE` and then the encoded value. A reader refuses a version that
//! it does not know and bytes that are left over, and never allocates more than the limit that it is given.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

/// A type that is sent or stored: it has a version and a size limit.
pub trait Message: Serialize + DeserializeOwned {
    /// Newest version of the layout; raised whenever the encoded form changes.
    const VERSION: u16;
    /// Oldest version that can still be read. Older than [`Message::VERSION`] only where later versions did nothing but
    /// add variants at the end of enums: then the bytes of an older value are those of the same value today.
    const OLDEST: u16 = Self::VERSION;
    /// Most bytes of an encoded value.
    const BYTES_MAX: usize;
    /// What it is, for errors.
    const NAME: &'static str;

    /// The version that this value needs: a reader of that version understands it.
    fn version(&self) -> u16 {
        Self::VERSION
    }
}

/// Why bytes are not a message, or a value cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Longer than the type allows.
    #[error("a {name} of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// The type.
        name: &'static str,
        /// Bytes that came or would be sent.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Of a version that this build does not know.
    #[error("a {name} of version {found} cannot be read: this build reads version {known}")]
    UnknownVersion {
        /// The type.
        name: &'static str,
        /// The version in the bytes.
        found: u16,
        /// The version that this build reads.
        known: u16,
    },
    /// Not the encoding of a value.
    #[error("malformed {name}")]
    Malformed {
        /// The type.
        name: &'static str,
        /// What the codec said.
        #[source]
        source: Box<bincode::ErrorKind>,
    },
    /// Too short to hold a version.
    #[error("a {name} ends before its version")]
    Truncated {
        /// The type.
        name: &'static str,
    },
}

const VERSION_BYTES: usize = 2;

fn options(limit: usize) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(limit as u64)
}

/// The bytes of a message.
///
/// # Errors
/// [`CodecError::TooLong`] if the value does not fit the type's limit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.extend_from_slice(&message.version().to_le_bytes());
    options(M::BYTES_MAX)
        .serialize_into(&mut bytes, message)
        .map_err(|source| encode_error::<M>(source, message))?;
    Ok(bytes)
}

fn encode_error<M: Message>(source: Box<bincode::ErrorKind>, message: &M) -> CodecError {
    if !matches!(*source, bincode::ErrorKind::SizeLimit) {
        return CodecError::Malformed { name: M::NAME, source };
    }
    let bytes = bincode::serialized_size(message).map_or(usize::MAX, |bytes| bytes as usize);
    CodecError::TooLong { name: M::NAME, bytes, limit: M::BYTES_MAX }
}

/// Room that a message is given before it is known how long it is: most are shorter.
const USUAL_BYTES: usize = 256;

/// Bytes that [`encode`] would make of a message, without making them; `None` if they are over the type's limit.
pub fn encoded_bytes<M: Message>(message: &M) -> Option<usize> {
    let body = options(M::BYTES_MAX).serialized_size(message).ok()?;
    usize::try_from(body).ok()?.checked_add(VERSION_BYTES)
}

/// The message in `bytes`.
///
/// # Errors
/// [`CodecError`]: over the limit, of another version, malformed, or followed by other bytes.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, CodecError> {
    if bytes.len() > M::BYTES_MAX + VERSION_BYTES {
        return Err(CodecError::TooLong { name: M::NAME, bytes: bytes.len(), limit: M::BYTES_MAX });
    }
    let (version, body) = bytes
        .split_first_chunk::<VERSION_BYTES>()
        .ok_or(CodecError::Truncated { name: M::NAME })?;
    let found = u16::from_le_bytes(*version);
    if !(M::OLDEST..=M::VERSION).contains(&found) {
        return Err(CodecError::UnknownVersion { name: M::NAME, found, known: M::VERSION });
    }
    options(M::BYTES_MAX)
        .deserialize(body)
        .map_err(|source| CodecError::Malformed { name: M::NAME, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        text: String,
        number: u32,
    }

    impl Message for Sample {
        const VERSION: u16 = 3;
        const BYTES_MAX: usize = 64;
        const NAME: &'static str = "sample";
    }

    fn sample(length: usize) -> Sample {
        Sample { text: "x".repeat(length), number: 7 }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&sample(2)).unwrap();
        assert_eq!(bytes, [3, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'x', b'x', 7, 0, 0, 0]);
        assert_eq!(decode::<Sample>(&bytes).unwrap(), sample(2));
    }

    /// The second version added a variant.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Grown {
        Old(u8),
        New,
    }

    impl Message for Grown {
        const VERSION: u16 = 2;
        const OLDEST: u16 = 1;
        const BYTES_MAX: usize = 64;
        const NAME: &'static str = "grown";

        fn version(&self) -> u16 {
            match self {
                Self::Old(_) => 1,
                Self::New => 2,
            }
        }
    }

    #[test]
    fn a_value_has_the_version_that_it_needs_and_older_ones_are_read() {
        let old = encode(&Grown::Old(7)).unwrap();
        assert_eq!(old, [1, 0, 0, 0, 0, 0, 7]);
        assert_eq!(decode::<Grown>(&old).unwrap(), Grown::Old(7));
        let new = encode(&Grown::New).unwrap();
        assert_eq!(new, [2, 0, 1, 0, 0, 0]);
        assert_eq!(decode::<Grown>(&new).unwrap(), Grown::New);
        for unknown in [0, 3] {
            let bytes = [&[unknown, 0][..], &old[2..]].concat();
            assert!(matches!(decode::<Grown>(&bytes), Err(CodecError::UnknownVersion { .. })));
        }
    }

    #[test]
    fn refusals_are_typed() {
        assert!(matches!(encode(&sample(64)), Err(CodecError::TooLong { .. })));
        assert!(matches!(decode::<Sample>(&[0; 67]), Err(CodecError::TooLong { .. })));
        assert!(matches!(
            decode::<Sample>(&[9, 0]),
            Err(CodecError::UnknownVersion { found: 9, .. })
        ));
        assert!(matches!(decode::<Sample>(&[3]), Err(CodecError::Truncated { .. })));
        let mut trailing = encode(&sample(1)).unwrap();
        trailing.push(0);
        assert!(matches!(decode::<Sample>(&trailing), Err(CodecError::Malformed { .. })));
        let hostile_length = [&3u16.to_le_bytes()[..], &u64::MAX.to_le_bytes()[..]].concat();
        assert!(matches!(decode::<Sample>(&hostile_length), Err(CodecError::Malformed { .. })));
    }
}
