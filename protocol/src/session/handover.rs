//! Who may run a machine while it moves.
//!
//! ```text
//!  source   Holds ── release (target ready, digests equal, QEMU completed) ──► Released ── accepted ──► Confirmed
//!             ▲                                                                    │
//!             └──────────────────────────── refused ───────────────────────────────┘
//!
//!  target   Waiting ── go ──► Accepted
//!             └── give up ──► Refused
//! ```
//!
//! Both records are durable, and each is written before anybody is told. The source may run the guest in `Holds` only,
//! the target in `Accepted` only. The source leaves `Holds` before it says *go*; the target accepts only on *go*; and
//! the source comes back to `Holds` only if the target durably refused, after which the target never accepts. So at
//! no moment may both run it, whatever is lost, repeated, late or restarted. In `Released` nobody may run it until the
//! link answers: that is the price, and it ends by itself when the link returns.
//!
//! Two facts of QEMU make the first arrow safe. A source QEMU whose migration has not completed starts the guest again
//! by itself when its socket closes (for instance because the agent died), therefore the source releases only after
//! QEMU said `completed`; and the target's QEMU is started paused, so only the agent's `cont` runs it.

use serde::{Deserialize, Serialize};

/// What the source has durably decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceRecord {
    /// The machine is the source's.
    Holds,
    /// The source gave it away and does not know yet whether the target took it.
    Released,
    /// The target took it.
    Confirmed,
}

/// What the target has durably decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetRecord {
    /// Nothing yet.
    Waiting,
    /// The machine is the target's.
    Accepted,
    /// The target will never take it under this migration.
    Refused,
}

/// The target's answer to *go* and to the question what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Not decided: *go* may be said again.
    Waiting,
    /// Durably taken.
    Accepted,
    /// Durably refused.
    Refused,
}

impl SourceRecord {
    /// Whether the source may run the guest.
    pub fn may_run(self) -> bool {
        self == Self::Holds
    }

    /// Whether *go* may be said: only once the release is durable.
    pub fn may_say_go(self) -> bool {
        self == Self::Released
    }

    /// The record after the target's verdict.
    #[must_use]
    pub fn after(self, verdict: Verdict) -> Self {
        match (self, verdict) {
            (Self::Released, Verdict::Accepted) => Self::Confirmed,
            (Self::Released, Verdict::Refused) => Self::Holds,
            (record, _) => record,
        }
    }
}

impl TargetRecord {
    /// Whether the target may run the guest.
    pub fn may_run(self) -> bool {
        self == Self::Accepted
    }

    /// The record after *go*. `loaded` says whether this target has the verified machine in a QEMU that is alive; if
    /// not, it can only refuse.
    #[must_use]
    pub fn after_go(self, loaded: bool) -> Self {
        match (self, loaded) {
            (Self::Waiting, true) => Self::Accepted,
            (Self::Waiting, false) => Self::Refused,
            (record, _) => record,
        }
    }

    /// The record after the target gave up for a reason of its own.
    #[must_use]
    pub fn after_giving_up(self) -> Self {
        match self {
            Self::Waiting => Self::Refused,
            record => record,
        }
    }

    /// What the source is told.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Waiting => Verdict::Waiting,
            Self::Accepted => Verdict::Accepted,
            Self::Refused => Verdict::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashSet, VecDeque};

    /// Everything that matters for the rule: both records, whether each QEMU runs, and the messages on the way. Messages
    /// stay on the way for ever, so they may be lost, late and repeated.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct World {
        source: SourceRecord,
        source_runs: bool,
        source_completed: bool,
        target: TargetRecord,
        target_runs: bool,
        target_loaded: bool,
        messages: BTreeSet<u8>,
    }

    impl World {
        fn send(&mut self, message: u8) {
            self.messages.insert(message);
        }
    }

    const READY: u8 = 0;
    const GO: u8 = 1;
    const ACCEPTED: u8 = 2;
    const REFUSED: u8 = 3;

    fn begin() -> World {
        World {
            source: SourceRecord::Holds,
            source_runs: true,
            source_completed: false,
            target: TargetRecord::Waiting,
            target_runs: false,
            target_loaded: false,
            messages: BTreeSet::new(),
        }
    }

    fn source_steps(world: &World, next: &mut Vec<World>) {
        let mut step = |change: &dyn Fn(&mut World)| {
            let mut after = world.clone();
            change(&mut after);
            next.push(after);
        };
        // Switchover: the guest stops, and QEMU completes once the target is ready.
        if world.source == SourceRecord::Holds && world.source_runs {
            step(&|after| after.source_runs = false);
        }
        if world.messages.contains(&READY) && !world.source_runs {
            step(&|after| after.source_completed = true);
        }
        if world.source_completed && world.source == SourceRecord::Holds && !world.source_runs {
            step(&|after| after.source = SourceRecord::Released);
        }
        if world.source.may_say_go() {
            step(&|after| after.send(GO));
        }
        for (message, verdict) in [(ACCEPTED, Verdict::Accepted), (REFUSED, Verdict::Refused)] {
            if world.messages.contains(&message) {
                step(&|after| after.source = after.source.after(verdict));
            }
        }
        // The agent crashes or gives up: QEMU resumes by itself before it completed; afterwards only the agent
        // resumes it, by its record.
        if !world.source_completed || world.source.may_run() {
            step(&|after| {
                after.source_runs = true;
                after.source_completed = false;
            });
        }
    }

    fn target_steps(world: &World, next: &mut Vec<World>) {
        let mut step = |change: &dyn Fn(&mut World)| {
            let mut after = world.clone();
            change(&mut after);
            next.push(after);
        };
        if !world.source_runs && world.target == TargetRecord::Waiting {
            step(&|after| {
                after.target_loaded = true;
                after.messages.insert(READY);
            });
        }
        if world.messages.contains(&GO) {
            step(&|after| after.target = after.target.after_go(after.target_loaded));
        }
        if world.target.may_run() {
            step(&|after| after.target_runs = true);
        }
        // Gives up, or crashes and forgets what it had loaded.
        step(&|after| after.target = after.target.after_giving_up());
        if !world.target.may_run() {
            step(&|after| after.target_loaded = false);
        }
        match world.target.verdict() {
            Verdict::Waiting => {}
            Verdict::Accepted => step(&|after| after.send(ACCEPTED)),
            Verdict::Refused => step(&|after| after.send(REFUSED)),
        }
    }

    fn successors(world: &World) -> Vec<World> {
        let mut next = Vec::new();
        source_steps(world, &mut next);
        target_steps(world, &mut next);
        next
    }

    fn reachable(from: World) -> HashSet<World> {
        let mut seen = HashSet::from([from.clone()]);
        let mut queue = VecDeque::from([from]);
        while let Some(world) = queue.pop_front() {
            for next in successors(&world) {
                if seen.insert(next.clone()) {
                    queue.push_back(next);
                }
            }
        }
        seen
    }

    #[test]
    fn no_reachable_state_has_two_running_copies_and_every_state_leads_to_one() {
        let all = reachable(begin());
        assert!(all.len() > 40, "the exploration covers too little: {} states", all.len());
        for world in &all {
            assert!(!(world.source_runs && world.target_runs), "two running copies: {world:?}");
            assert!(!(world.source.may_run() && world.target.may_run()), "two owners: {world:?}");
            let ends_well =
                reachable(world.clone()).iter().any(|end| end.source_runs != end.target_runs);
            assert!(ends_well, "no way to a running copy from {world:?}");
        }
        let completes =
            |world: &World| world.target_runs && world.source == SourceRecord::Confirmed;
        assert!(all.iter().any(completes), "no state where the machine has moved");
    }
}
