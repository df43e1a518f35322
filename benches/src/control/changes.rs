//! What operators change in a fleet, one change after the other: annotations, starts and stops.
//!
//! Machines are started and stopped in a ring. At first every other machine runs; a machine that runs is stopped when its
//! turn comes, one that is stopped is started. So a machine has a whole turn of the ring until it is changed again, and
//! from the number of turns follows how every machine has to stand in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use http::Method;
use novacron_protocol::ids::VmId;

use super::coordinators::{ask, check};
use super::dialect::Key;
use super::link::{Answer, Ask};
use super::machines::is_started;
use super::reading::annotate;
use super::work::Work;

/// Of so many changes …
const OF: u64 = 10;
/// … this many start or stop a machine.
const POWER: u64 = 4;

/// See the module. Clones share the ring.
#[derive(Debug, Clone)]
pub struct Changes {
    machines: Arc<Vec<VmId>>,
    turned: Arc<AtomicUsize>,
}

impl Changes {
    /// Of machines in the order of their numbers.
    pub fn new(machines: &[VmId]) -> Self {
        Self { machines: Arc::new(machines.to_vec()), turned: Arc::default() }
    }

    /// How many machines were started or stopped, each time counted.
    pub fn turned(&self) -> usize {
        self.turned.load(Ordering::Relaxed)
    }

    /// The machines that have to run now.
    pub fn running(&self) -> impl Iterator<Item = VmId> {
        let (turned, ring) = (self.turned(), self.machines.len());
        let machines = self.machines.iter().enumerate();
        let running = machines.filter(move |(number, _)| runs_after(*number, ring, turned));
        running.map(|(_, vm)| *vm)
    }

    fn turn(&self) -> Ask {
        let (turned, ring) = (self.turned.fetch_add(1, Ordering::Relaxed), self.machines.len());
        let number = turned % ring;
        let verb = if runs_after(number, ring, turned) { "stop" } else { "start" };
        ask(Method::POST, &format!("/api/v1/vms/{}/{verb}", self.machines[number]), "")
    }
}

/// Whether a machine runs after so many steps around a ring.
fn runs_after(number: usize, ring: usize, steps: usize) -> bool {
    let turns = steps / ring + usize::from(number < steps % ring);
    is_started(number) == turns.is_multiple_of(2)
}

impl Work for Changes {
    fn ask(&self, key: Key) -> Ask {
        if key.number % OF < POWER {
            return self.turn();
        }
        let place = key.number % self.machines.len() as u64;
        annotate(self.machines[place as usize], key.number)
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        check(answer)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn changes(count: u128) -> Changes {
        let ids: Vec<_> = (0..count).map(|number| VmId(Uuid::from_u128(number))).collect();
        Changes::new(&ids)
    }

    #[test]
    fn machines_that_run_are_stopped_and_the_others_started() {
        let changes = changes(3);
        let mut runs = [true, false, true];
        for step in 0..20 {
            let number = step % 3;
            let verb = if runs[number] { "stop" } else { "start" };
            assert!(changes.turn().path.ends_with(verb), "step {step}");
            runs[number] = !runs[number];
            let running: Vec<_> = changes.running().collect();
            let wanted = (0..3).filter(|number| runs[*number]);
            let wanted: Vec<_> =
                wanted.map(|number| VmId(Uuid::from_u128(number as u128))).collect();
            assert_eq!(running, wanted, "step {step}");
        }
    }

    #[test]
    fn four_of_ten_changes_are_about_power() {
        let changes = changes(7);
        let asks = (0..100).map(|number| changes.ask(Key { client: 0, number }));
        let annotated = asks.filter(|ask| ask.method == Method::PUT).count();
        assert_eq!((annotated, changes.turned()), (60, 40));
    }
}
