//! Versions of the wire protocol (DWCP) and how two machines agree on one.

use serde::{Deserialize, Serialize};

/// The application protocol of TLS for links between members of a cluster.
pub const ALPN: &[u8] = b"dwcp/3";

/// The protocol's version as users see it.
pub const PROTOCOL_VERSION: &str = "3.0.0";

/// The newest minor version of major 3 that this build speaks, and the oldest that it still understands.
/// Version N talks to N−1: both ends send their range and use the highest common one.
/// 3.1 added the stream of samples ([`crate::sample`]).
pub const MINOR_RANGE: MinorRange = MinorRange { oldest: 0, newest: 1 };

/// The minor versions that one end speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinorRange {
    /// Oldest minor version understood.
    pub oldest: u16,
    /// Newest minor version spoken.
    pub newest: u16,
}

/// The two ends have no minor version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no common version of dwcp/3: this side speaks 3.{}..3.{}, the peer 3.{}..3.{}",
    ours.oldest, ours.newest, theirs.oldest, theirs.newest
)]
pub struct VersionMismatch {
    /// What this side speaks.
    pub ours: MinorRange,
    /// What the peer said.
    pub theirs: MinorRange,
}

/// The highest minor version that both ends speak.
///
/// # Errors
/// [`VersionMismatch`] if the ranges do not meet.
pub fn agree(ours: MinorRange, theirs: MinorRange) -> Result<u16, VersionMismatch> {
    let newest = ours.newest.min(theirs.newest);
    if newest >= ours.oldest.max(theirs.oldest) {
        return Ok(newest);
    }
    Err(VersionMismatch { ours, theirs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_used() {
        let range = |oldest, newest| MinorRange { oldest, newest };
        assert_eq!(agree(range(0, 3), range(2, 5)), Ok(3));
        assert!(agree(range(0, 1), range(2, 5)).is_err());
    }
}
