//! Who is compared.

use std::fmt;

use serde::Serialize;

/// In the order in which they take turns.
pub const SIDES: [Side; 2] = [Side::Etcd, Side::NovaCron];

/// A side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Side {
    /// The peer.
    Etcd,
    /// Ours.
    NovaCron,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd => "etcd",
            Self::NovaCron => "NovaCron",
        })
    }
}
