//! The states of a disk at the source.
//!
//! ```text
//!            job ready          job ended           stream ended
//! Copying ─────────────► Ready ───────────► Ended ───────────────► Sent(digest)
//!    └──────── anything else ─┴──────────────┴──────► Failed(reason)
//! ```

use super::DiskError;

/// Where a disk stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mirror {
    /// Not all of it has been copied once.
    Copying,
    /// All of it has been, and what the guest writes follows.
    Ready,
    /// QEMU has handed over everything, and writes nothing more.
    Ended,
    /// Everything is on the stream.
    Sent([u8; 16]),
    /// It will not arrive. The first reason stays: what follows is a consequence.
    Failed(String),
}

/// What happens to a disk.
#[derive(Debug)]
pub(super) enum Occurrence {
    /// QEMU's job has caught up.
    JobReady,
    /// QEMU's job ended.
    JobEnded,
    /// QEMU's client left, and the stream has been ended.
    StreamEnded([u8; 16]),
    /// The job, the socket or the stream failed.
    Failed(String),
}

impl Mirror {
    pub(super) fn after(&self, occurrence: Occurrence) -> Self {
        match (self, occurrence) {
            // What is sent is sent; what happens to the connection now is not about this disk.
            (Self::Sent(_) | Self::Failed(_), _) => self.clone(),
            (_, Occurrence::Failed(reason)) => Self::Failed(reason),
            (Self::Copying | Self::Ready, Occurrence::JobReady) => Self::Ready,
            (Self::Ready, Occurrence::JobEnded) => Self::Ended,
            (Self::Ended, Occurrence::StreamEnded(digest)) => Self::Sent(digest),
            (Self::Copying, Occurrence::JobEnded) => failed("QEMU's mirror ended half done"),
            (_, Occurrence::StreamEnded(_)) => failed("QEMU left before its mirror had ended"),
            (Self::Ended, Occurrence::JobReady | Occurrence::JobEnded) => Self::Ended,
        }
    }
}

fn failed(reason: &str) -> Mirror {
    Mirror::Failed(reason.to_owned())
}

/// Whether all disks are `reached`, or the first one that failed.
pub(super) fn all(
    mirrors: &[Mirror],
    reached: impl Fn(&Mirror) -> bool,
) -> Result<bool, DiskError> {
    let failed = mirrors.iter().enumerate().find_map(|(disk, mirror)| match mirror {
        Mirror::Failed(reason) => Some(DiskError::Failed { disk, reason: reason.clone() }),
        _ => None,
    });
    failed.map_or_else(|| Ok(mirrors.iter().all(reached)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(occurrences: impl IntoIterator<Item = Occurrence>) -> Mirror {
        occurrences.into_iter().fold(Mirror::Copying, |mirror, next| mirror.after(next))
    }

    #[test]
    fn a_disk_is_sent_in_one_order_only() {
        use Occurrence::{JobEnded, JobReady, StreamEnded};
        let digest = [7; 16];
        assert_eq!(after([JobReady, JobEnded, StreamEnded(digest)]), Mirror::Sent(digest));
        for early in
            [vec![JobEnded], vec![StreamEnded(digest)], vec![JobReady, StreamEnded(digest)]]
        {
            assert!(matches!(after(early), Mirror::Failed(_)));
        }
    }

    #[test]
    fn the_first_reason_stays_and_what_is_sent_too() {
        use Occurrence::{Failed, JobEnded, JobReady, StreamEnded};
        let broken = || Failed("broken".to_owned());
        let mirror = after([JobReady, broken(), Failed("consequence".to_owned())]);
        assert_eq!(mirror, Mirror::Failed("broken".to_owned()));
        let mirror = after([JobReady, JobEnded, StreamEnded([7; 16]), broken()]);
        assert_eq!(mirror, Mirror::Sent([7; 16]));
    }

    #[test]
    fn one_failure_is_everybodys() {
        let ready = |mirror: &Mirror| *mirror == Mirror::Ready;
        assert!(all(&[], ready).unwrap());
        assert!(!all(&[Mirror::Ready, Mirror::Copying], ready).unwrap());
        let failure = all(&[Mirror::Ready, Mirror::Failed("broken".to_owned())], ready);
        assert!(matches!(failure, Err(DiskError::Failed { disk: 1, .. })));
    }
}
