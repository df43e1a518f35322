//! In which order the contenders run: in turns, so that a machine that gets slower or busier does so for all.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::peer::Mode;

/// Somebody who moves the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// QEMU's own migration.
    Peer(Mode),
    /// NovaCron.
    Ours,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(mode) => write!(f, "QEMU {mode}"),
            Self::Ours => f.write_str("NovaCron"),
        }
    }
}

impl Serialize for Contender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who takes part.
pub fn contenders(modes: &[Mode], ours: bool) -> Vec<Contender> {
    modes.iter().copied().map(Contender::Peer).chain(ours.then_some(Contender::Ours)).collect()
}

/// Every contender `runs` times, in turns.
pub fn schedule(contenders: &[Contender], runs: u32) -> Vec<Contender> {
    (0..runs).flat_map(|_| contenders.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns() {
        let all = contenders(&[Mode::MultifdZstd], true);
        let [peer, ours] = all[..] else { panic!("{all:?}") };
        assert_eq!(schedule(&all, 3), [peer, ours, peer, ours, peer, ours]);
        assert_eq!(contenders(&[Mode::Plain], false), [Contender::Peer(Mode::Plain)]);
    }
}
