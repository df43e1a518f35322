//! Which coordinator to dial next: pure.
//!
//! The configured addresses are where it begins; a coordinator that welcomed us told all members' addresses, and one
//! that does not lead told the leader's. A hint is tried once, next.

use std::collections::VecDeque;
use std::time::Duration;

/// Addresses that are kept: a cluster has at most five members, and some may have moved.
const ADDRESSES_MAX: usize = 32;

/// The pause after the first round in which nobody led, doubled after each further one.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// A leader is elected within a few seconds; looking more rarely than this would make the node look dead.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Hints followed in a row: two members that name each other must not keep us busy.
const HINTS_MAX: u32 = 3;

/// The coordinators that we know.
#[derive(Debug)]
pub struct Candidates {
    addresses: VecDeque<String>,
    hint: Option<String>,
    hints_followed: u32,
    /// Addresses tried since the last pause.
    tried: usize,
    rounds_failed: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Dial this address.
    Dial(String),
    /// Everybody was asked: wait about so long, and then ask again.
    Pause(Duration),
}

impl Candidates {
    /// The configured coordinators.
    pub fn new(configured: &[String]) -> Self {
        Self {
            addresses: configured.iter().take(ADDRESSES_MAX).cloned().collect(),
            hint: None,
            hints_followed: 0,
            tried: 0,
            rounds_failed: 0,
        }
    }

    /// What to do next.
    pub fn next_step(&mut self) -> Next {
        if let Some(hint) = self.hint.take() {
            return Next::Dial(hint);
        }
        if self.tried >= self.addresses.len() {
            self.tried = 0;
            self.hints_followed = 0;
            let doubled = PAUSE_MIN.saturating_mul(1 << self.rounds_failed.min(10));
            self.rounds_failed += 1;
            return Next::Pause(doubled.min(PAUSE_MAX));
        }
        self.tried += 1;
        match self.addresses.pop_front() {
            Some(address) => {
                self.addresses.push_back(address.clone());
                Next::Dial(address)
            }
            None => Next::Pause(PAUSE_MAX),
        }
    }

    /// One that does not lead named the leader.
    pub fn hint(&mut self, leader: String) {
        if self.hints_followed < HINTS_MAX {
            self.hints_followed += 1;
            self.hint = Some(leader);
        }
    }

    /// The leader at `address` welcomed us and named all members. It is the last to be asked the next time: if the
    /// session ends because it died, dialling it again would cost the whole handshake's timeout; if it lives, the
    /// first of the others names it at once.
    pub fn welcomed(&mut self, address: &str, members: &[String]) {
        for member in members {
            if self.addresses.len() < ADDRESSES_MAX && !self.addresses.contains(member) {
                self.addresses.push_back(member.clone());
            }
        }
        self.addresses.retain(|known| known != address);
        self.addresses.push_back(address.to_owned());
        (self.tried, self.rounds_failed, self.hints_followed) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(address: &str) -> Next {
        Next::Dial(address.to_owned())
    }

    fn candidates(addresses: &[&str]) -> Candidates {
        Candidates::new(&addresses.iter().map(|&address| address.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn everybody_is_asked_before_a_pause_that_grows() {
        let mut candidates = candidates(&["a", "b"]);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(candidates.next_step(), dial("a"));
            assert_eq!(candidates.next_step(), dial("b"));
            let Next::Pause(pause) = candidates.next_step() else { panic!("no pause") };
            pauses.push(pause);
        }
        assert_eq!(pauses[..2], [PAUSE_MIN, PAUSE_MIN * 2]);
        assert_eq!(pauses[7], PAUSE_MAX);
    }

    #[test]
    fn a_hint_is_next_but_not_for_ever() {
        let mut candidates = candidates(&["a"]);
        for _ in 0..HINTS_MAX {
            candidates.hint("leader".to_owned());
            assert_eq!(candidates.next_step(), dial("leader"));
        }
        candidates.hint("leader".to_owned());
        assert_eq!(candidates.next_step(), dial("a"));
    }

    #[test]
    fn members_are_learned_and_the_last_leader_is_last() {
        let mut candidates = candidates(&["a", "b"]);
        candidates.welcomed("b", &["b".to_owned(), "c".to_owned()]);
        assert_eq!(candidates.next_step(), dial("a"));
        assert_eq!(candidates.next_step(), dial("c"));
        assert_eq!(candidates.next_step(), dial("b"));
    }
}
