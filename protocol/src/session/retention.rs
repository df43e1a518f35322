//! What was put on a stream and may have to be put on it again: frames by number, kept until the other side has
//! processed them.
//!
//! ```text
//!   processed            written             pushed
//!   0 ─────┬──────────────────┬──────────────────►
//!          └─ kept ───────────┴── kept, waiting ──┘
//! ```
//!
//! The other side says how many frames it has *processed* (they need not be kept) and, when a link is back, how many it
//! has *taken* (what follows is to be written again). It can say neither of a frame that was never written.

use std::collections::VecDeque;

use bytes::Bytes;

/// The other side speaks of frames that were not written, or takes back what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the other agent counts {said} frames of a stream of which {kept_from} to {written} can be meant"
)]
pub struct Miscounted {
    /// What it said.
    pub said: u64,
    /// The first frame that is kept.
    pub kept_from: u64,
    /// Frames that were written.
    pub written: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    frames: VecDeque<Kept>,
    kept_from: u64,
    written: u64,
    kept_bytes: usize,
    kept_work: usize,
    waiting_bytes: usize,
}

/// A frame, and what the other side has to do for it, in a unit of the caller's.
#[derive(Debug, Clone)]
struct Kept {
    frame: Bytes,
    work: usize,
}

impl Retention {
    /// A frame that is to be written; its number is how many were pushed before. `work` is what the other side has to
    /// do for it, in a unit of the caller's.
    pub fn push(&mut self, frame: Bytes, work: usize) {
        self.kept_bytes += frame.len();
        self.kept_work += work;
        self.waiting_bytes += frame.len();
        self.frames.push_back(Kept { frame, work });
    }

    /// The next frame to write; it counts as written.
    pub fn write_next(&mut self) -> Option<Bytes> {
        let at = usize::try_from(self.written - self.kept_from).ok()?;
        let frame = self.frames.get(at)?.frame.clone();
        self.written += 1;
        self.waiting_bytes -= frame.len();
        Some(frame)
    }

    /// The other side has processed so many frames in all.
    ///
    /// # Errors
    /// [`Miscounted`] if they were not written. Less than it said before is no news.
    pub fn processed(&mut self, count: u64) -> Result<(), Miscounted> {
        if count > self.written {
            return Err(self.miscounted(count));
        }
        while self.kept_from < count
            && let Some(kept) = self.frames.pop_front()
        {
            self.kept_from += 1;
            self.kept_bytes -= kept.frame.len();
            self.kept_work -= kept.work;
        }
        Ok(())
    }

    /// A link is back, and the other side has taken so many frames in all: those that follow are to be written again.
    ///
    /// # Errors
    /// [`Miscounted`] if it has taken what was not written, or has lost what it had processed.
    pub fn resume(&mut self, taken: u64) -> Result<(), Miscounted> {
        if taken > self.written || taken < self.kept_from {
            return Err(self.miscounted(taken));
        }
        let again = usize::try_from(taken - self.kept_from).unwrap_or(usize::MAX);
        self.written = taken;
        self.waiting_bytes = self.frames.iter().skip(again).map(|kept| kept.frame.len()).sum();
        Ok(())
    }

    /// Frames pushed in all.
    pub fn pushed(&self) -> u64 {
        self.kept_from + self.frames.len() as u64
    }

    /// Bytes of frames that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Work that the other side has still to do, as far as it has said.
    pub fn kept_work(&self) -> usize {
        self.kept_work
    }

    /// Bytes of frames that were not written yet.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether every frame was written.
    pub fn is_written(&self) -> bool {
        self.written == self.pushed()
    }

    fn miscounted(&self, said: u64) -> Miscounted {
        Miscounted { said, kept_from: self.kept_from, written: self.written }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(number: u64) -> Bytes {
        Bytes::from(number.to_le_bytes().to_vec())
    }

    #[test]
    fn frames_that_are_not_there_cannot_be_meant() {
        let mut retention = Retention::default();
        (0..3).for_each(|number| retention.push(frame(number), 1));
        assert!(retention.processed(1).is_err(), "nothing was written");
        assert_eq!(retention.write_next(), Some(frame(0)));
        assert_eq!(retention.write_next(), Some(frame(1)));
        assert!(retention.processed(2).is_ok());
        assert!(retention.resume(1).is_err(), "it had processed two");
        assert!(retention.resume(3).is_err(), "the third was not written");
        assert!(retention.processed(1).is_ok(), "old news");
        assert_eq!((retention.kept_bytes(), retention.waiting_bytes()), (8, 8));
        assert_eq!(retention.kept_work(), 1, "two of three are done");
    }

    /// What happens to a stream.
    #[derive(Debug, Clone, Copy)]
    enum Happens {
        Push,
        /// A frame is written and arrives.
        Arrive,
        /// A frame is written and lost with the link.
        Lose,
        /// What has arrived is processed, and said to be.
        Process,
        /// The link is back.
        Resume,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            3 => Just(Happens::Push),
            3 => Just(Happens::Arrive),
            1 => Just(Happens::Lose),
            1 => Just(Happens::Process),
            1 => Just(Happens::Resume),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_arrives_once_and_in_order(happens in prop::collection::vec(happens(), 0..200)) {
            let mut retention = Retention::default();
            let (mut pushed, mut arrived, mut is_cut) = (0, Vec::new(), false);
            for what in happens {
                match what {
                    Happens::Push => {
                        retention.push(frame(pushed), 1);
                        pushed += 1;
                    }
                    Happens::Arrive if !is_cut => arrived.extend(retention.write_next()),
                    // Once one is lost, so is all that follows on this link.
                    Happens::Arrive | Happens::Lose => is_cut |= retention.write_next().is_some(),
                    Happens::Process => prop_assert!(retention.processed(arrived.len() as u64).is_ok()),
                    Happens::Resume => {
                        prop_assert!(retention.resume(arrived.len() as u64).is_ok());
                        is_cut = false;
                    }
                }
            }
            prop_assert!(retention.resume(arrived.len() as u64).is_ok());
            while let Some(frame) = retention.write_next() {
                arrived.push(frame);
            }
            prop_assert!(retention.is_written() && retention.waiting_bytes() == 0);
            prop_assert!(retention.processed(pushed).is_ok());
            prop_assert_eq!((retention.kept_bytes(), retention.kept_work()), (0, 0));
            prop_assert_eq!(arrived, (0..pushed).map(frame).collect::<Vec<_>>());
        }
    }
}
