//! For which QEMU the stream's layout is known.

use std::fmt;

/// The triple that QMP's `query-version` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QemuVersion {
    /// 10 in 10.0.2.
    pub major: u32,
    /// 0 in 10.0.2.
    pub minor: u32,
    /// 2 in 10.0.2.
    pub micro: u32,
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Whether this module understands a QEMU's stream.
///
/// A version enters [`StreamLayout::Known`] only after its sources were compared with those of a
/// known one or a golden stream of it is among the tests. The layout also assumes a machine type
/// newer than 9.2: older ones write no SWITCHOVER_START, and those up to 8.0 pair SYNC packets with
/// every section instead of with the flush marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamLayout {
    /// The page-wise path may be used.
    Known,
    /// Only the byte-exact tunnel may be used.
    Unknown,
}

impl StreamLayout {
    /// What is known of this version. 10.0 is tested here; 10.1 and 10.2 write the same precopy
    /// stream by comparison of their sources. A development version (micro 50 and up) is unknown.
    pub fn of(version: QemuVersion) -> Self {
        match version {
            QemuVersion { major: 10, minor: 0..=2, micro: 0..50 } => Self::Known,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compared_versions_are_known() {
        let layout = |major, minor, micro| StreamLayout::of(QemuVersion { major, minor, micro });
        for known in [layout(10, 0, 0), layout(10, 0, 8), layout(10, 1, 2), layout(10, 2, 2)] {
            assert_eq!(known, StreamLayout::Known);
        }
        for unknown in [layout(7, 2, 0), layout(9, 2, 4), layout(10, 0, 50), layout(10, 3, 0)] {
            assert_eq!(unknown, StreamLayout::Unknown);
        }
        assert_eq!(layout(11, 0, 0), StreamLayout::Unknown);
    }
}
