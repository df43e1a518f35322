//! Where money could be saved, and what the machines of a place cost an hour: from the inventory and the prices that hold
//! now. Nothing here is in the ledger, and nothing of it was billed; it says what will be, if all stays as it is.

use std::collections::BTreeMap;

use novacron_protocol::api::{Saving, SavingRule};
use novacron_protocol::ids::ProjectName;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::VmState;

use crate::ledger::rating::divide_half_even;
use crate::state::Fleet;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::Dimension;
use crate::state::snapshot::{Snapshot, SnapshotStep};
use crate::state::vm::{Rest, Vm};

/// How long something has to be of no use until it is pointed out: 30 days.
pub const UNUSED_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Hours of a month: a twelfth of 365 days.
pub const HOURS_PER_MONTH: i128 = 730;

/// Names that are listed for each rule; all of them are counted.
pub const NAMES_MAX: usize = 20;

/// Pico-dollars in a micro-dollar.
const PICO: i128 = 1_000_000;

/// Bytes in the unit of disks' prices.
const GIB: i128 = 1 << 30;

/// What something costs an hour, exactly: in pico-dollars times bytes of a GiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerHour(i128);

impl PerHour {
    /// Adds so many units at a price.
    fn add(&mut self, units: u64, pico_dollars: u64, bytes_per_unit: i128) {
        let cost = i128::from(units).saturating_mul(i128::from(pico_dollars));
        self.0 = self.0.saturating_add(cost.saturating_mul(bytes_per_unit));
    }

    /// Adds another.
    pub fn plus(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// Micro-dollars for some hours, rounded once.
    pub fn micro_dollars(self, hours: i128) -> i64 {
        let exact = self.0.saturating_mul(hours);
        i64::try_from(divide_half_even(exact, GIB * PICO)).unwrap_or(i64::MAX)
    }
}

/// Pico-dollars for one unit of what is billed by time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct HourlyPrices {
    machine: u64,
    gib: u64,
    snapshot: u64,
}

/// Prices that hold now, by project, as they were looked up. A project without a plan pays nothing.
#[derive(Debug, Default)]
pub struct PriceList {
    known: BTreeMap<ProjectName, HourlyPrices>,
}

impl PriceList {
    fn of(&mut self, fleet: &Fleet, project: &ProjectName) -> HourlyPrices {
        if let Some(known) = self.known.get(project) {
            return *known;
        }
        let hour = Hour::of(fleet.clock());
        let card = fleet.plan_of(project, hour).and_then(|plan| fleet.rate_card(plan, hour));
        let price =
            |dimension| card.as_ref().map_or(0, |card| card.price(dimension).pico_dollars());
        let prices = HourlyPrices {
            machine: price(Dimension::VmHours),
            gib: price(Dimension::StorageGb),
            snapshot: price(Dimension::Snapshots),
        };
        self.known.insert(project.clone(), prices);
        prices
    }

    /// What a machine costs an hour as it stands: while it runs, its disks, and its snapshots. Of one that is out of sight
    /// nobody knows whether it runs: its disks and snapshots count.
    pub fn of_machine(&mut self, fleet: &Fleet, vm: &Vm) -> PerHour {
        let prices = self.of(fleet, vm.project());
        let mut cost = PerHour::default();
        let runs = matches!(vm.state(), VmState::Running | VmState::Migrating);
        cost.add(u64::from(runs), prices.machine, GIB);
        if vm.rest != Rest::NotMade {
            cost.add(vm.spec.disk_bytes(), prices.gib, 1);
        }
        let taken = fleet.snapshots_of(vm.id).filter(|snapshot| snapshot.ready_at.is_some());
        cost.add(taken.count() as u64, prices.snapshot, GIB);
        cost
    }
}

/// What was found by one rule.
#[derive(Debug, Default)]
struct Found {
    count: u64,
    cost: PerHour,
    names: Vec<String>,
}

impl Found {
    fn add(&mut self, cost: PerHour, name: impl FnOnce() -> String) {
        self.count += 1;
        self.cost.plus(cost);
        if self.names.len() < NAMES_MAX {
            self.names.push(name());
        }
    }

    fn shown(self, rule: SavingRule) -> Option<Saving> {
        (self.count > 0).then(|| Saving {
            rule,
            count: self.count,
            micro_dollars_per_month: self.cost.micro_dollars(HOURS_PER_MONTH),
            names: self.names,
        })
    }
}

/// What could be saved, as far as it was looked for.
#[derive(Debug, Default)]
pub struct Savings {
    stopped: Found,
    snapshots: Found,
}

impl Savings {
    /// Looks at a machine and its snapshots. What costs nothing saves nothing.
    pub fn look_at(&mut self, fleet: &Fleet, vm: &Vm, prices: &mut PriceList) {
        let now = fleet.clock();
        let price = prices.of(fleet, vm.project());
        if price.gib > 0 && vm.state() == VmState::Stopped && is_long_ago(vm.updated_at, now) {
            let mut cost = PerHour::default();
            cost.add(vm.spec.disk_bytes(), price.gib, 1);
            self.stopped.add(cost, || vm.spec.name.to_string());
        }
        if price.snapshot == 0 {
            return;
        }
        let is_old = |one: &&Snapshot| {
            one.step == SnapshotStep::Ready && one.ready_at.is_some_and(|at| is_long_ago(at, now))
        };
        for snapshot in fleet.snapshots_of(vm.id).filter(is_old) {
            let mut cost = PerHour::default();
            cost.add(1, price.snapshot, GIB);
            self.snapshots.add(cost, || format!("{}/{}", vm.spec.name, snapshot.name));
        }
    }

    /// What was found; a rule by which nothing was found is left out.
    pub fn shown(self) -> Vec<Saving> {
        let stopped = self.stopped.shown(SavingRule::StoppedMachines);
        stopped.into_iter().chain(self.snapshots.shown(SavingRule::OldSnapshots)).collect()
    }
}

fn is_long_ago(moment: Timestamp, now: Timestamp) -> bool {
    now.unix_ms.saturating_sub(moment.unix_ms) >= UNUSED_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_exact_until_they_are_rounded_once() {
        let mut cost = PerHour::default();
        // A third of a GiB at 27.397 micro-dollars, three times, is a GiB.
        for _ in 0..3 {
            cost.add((1 << 30) / 3, 27_397_000, 1);
        }
        assert_eq!(cost.micro_dollars(1), 27);
        assert_eq!(cost.micro_dollars(HOURS_PER_MONTH), 20_000);
        cost.add(1, 150_000 * 1_000_000, GIB);
        assert_eq!(cost.micro_dollars(1), 150_027);
        assert_eq!(PerHour(i128::MAX).micro_dollars(HOURS_PER_MONTH), i64::MAX);
    }

    #[test]
    fn a_month_ago_is_thirty_days_to_the_millisecond() {
        let at = Timestamp::from_unix_ms(7);
        assert!(is_long_ago(at, at.plus_ms(UNUSED_MS)));
        assert!(!is_long_ago(at, at.plus_ms(UNUSED_MS - 1)));
        assert!(!is_long_ago(at.plus_ms(1), at));
    }
}
