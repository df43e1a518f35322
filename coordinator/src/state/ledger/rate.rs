//! What usage costs: rate cards of plans, and which plan a project has. Both have an hour from which they hold and are
//! never changed once it has begun.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{PlanName, ProjectName};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::hour::Hour;
use crate::state::audit::Subject;
use crate::state::change::Change;
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};
use crate::state::reply::{Accepted, Refusal, Reply};
use crate::state::table::{Key, ROW_BYTES_MAX};

/// Rate cards of all plans: some 150 bytes each.
pub const RATE_CARDS_MAX: usize = 10_000;

/// Changes of the plan of one project that are kept.
pub const PLAN_CHANGES_MAX: usize = 1_000;

pub use novacron_protocol::limits::PRICE_MICRO_DOLLARS_MAX;

/// Units that a price may be for: so a price is a whole number of pico-dollars for one unit.
pub const PRICE_UNITS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// What is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// Hours of machines that ran.
    VmHours,
    /// GiB of disks, times hours.
    StorageGb,
    /// GiB that migrations put on the wire.
    TransferGb,
    /// Snapshots, times hours.
    Snapshots,
    /// Migrations that completed.
    Migrations,
}

impl Dimension {
    /// All of them, in the order of [`Prices`].
    pub const ALL: [Self; 5] =
        [Self::VmHours, Self::StorageGb, Self::TransferGb, Self::Snapshots, Self::Migrations];

    /// What a meter is billed as.
    pub fn of(meter: Meter) -> Self {
        match meter {
            Meter::VmSeconds => Self::VmHours,
            Meter::DiskByteSeconds => Self::StorageGb,
            Meter::BytesMoved => Self::TransferGb,
            Meter::SnapshotSeconds => Self::Snapshots,
            Meter::Migrations => Self::Migrations,
        }
    }

    /// Its name in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::VmHours => "vm-hours",
            Self::StorageGb => "storage-gb",
            Self::TransferGb => "transfer-gb",
            Self::Snapshots => "snapshots",
            Self::Migrations => "migrations",
        }
    }

    /// The meter's units in one unit of it: seconds of an hour, byte-seconds of a GiB-hour, bytes of a GiB.
    pub fn base_units(self) -> u64 {
        match self {
            Self::VmHours | Self::Snapshots => 3_600,
            Self::StorageGb => 3_600 << 30,
            Self::TransferGb => 1 << 30,
            Self::Migrations => 1,
        }
    }
}

/// What one dimension costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Micro-dollars, at most [`PRICE_MICRO_DOLLARS_MAX`] for one unit.
    pub micro_dollars: u64,
    /// For so many units of the dimension, one of [`PRICE_UNITS`].
    pub per_units: u64,
}

impl Price {
    /// Micro-dollars for one unit.
    pub const fn each(micro_dollars: u64) -> Self {
        Self { micro_dollars, per_units: 1 }
    }

    /// Millionths of a micro-dollar for one unit.
    pub fn pico_dollars(self) -> u64 {
        // Both were checked: at most 10⁹ · 10⁶.
        self.micro_dollars.saturating_mul(1_000_000) / self.per_units.max(1)
    }

    fn is_valid(self) -> bool {
        PRICE_UNITS.contains(&self.per_units) && self.micro_dollars <= PRICE_MICRO_DOLLARS_MAX
    }
}

/// Prices in the order of [`Dimension::ALL`].
pub type Prices = [Price; Dimension::ALL.len()];

/// What a plan costs from some hour on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateCard {
    /// The plan.
    pub plan: PlanName,
    /// The first hour for which it holds.
    pub valid_from: Hour,
    /// Machines that a project may have under it; without a bound if not said.
    pub vms_max: Option<u32>,
    /// What it costs.
    pub prices: Prices,
}

impl RateCard {
    /// What a dimension costs.
    pub fn price(&self, dimension: Dimension) -> Price {
        let place = Dimension::ALL.iter().position(|known| *known == dimension);
        place.and_then(|place| self.prices.get(place)).copied().unwrap_or(Price::each(0))
    }
}

impl Message for RateCard {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "rate card";
}

/// Which rate card.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateKey {
    /// The plan.
    pub plan: PlanName,
    /// From when.
    pub valid_from: Hour,
}

impl Key for RateKey {
    fn encode(&self) -> Vec<u8> {
        // Names hold no byte 0.
        [self.plan.as_str().as_bytes(), &[0], &self.valid_from.0.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (name, hour) = bytes.split_last_chunk::<8>()?;
        let plan = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?.parse().ok()?;
        Some(Self { plan, valid_from: Hour(u64::from_be_bytes(*hour)) })
    }
}

/// The plans that a project had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHistory {
    /// From when which, in order.
    pub changes: Vec<(Hour, PlanName)>,
}

impl Message for PlanHistory {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "row of a project's plans";
}

impl PlanHistory {
    /// The plan in an hour.
    pub fn at(&self, hour: Hour) -> Option<&PlanName> {
        self.changes.iter().rev().find(|(from, _)| *from <= hour).map(|(_, plan)| plan)
    }
}

/// The list prices: what holds for these plans until somebody sets another card. An enterprise's prices are its own.
const LIST: [(&str, Option<u32>, u64); 3] = [
    ("standard", Some(100), 150_000),
    ("professional", Some(1_000), 120_000),
    ("enterprise", None, 0),
];

/// The plan that has room where another has not.
const UPGRADES: [(&str, &str); 2] = [("standard", "professional"), ("professional", "enterprise")];

/// The rate cards that hold from the beginning.
pub fn list_cards() -> impl Iterator<Item = RateCard> {
    LIST.into_iter().filter_map(|(plan, vms_max, vm_hour)| {
        let mut prices = [Price::each(0); Dimension::ALL.len()];
        prices[0] = Price::each(vm_hour);
        Some(RateCard { plan: plan.parse().ok()?, valid_from: Hour(0), vms_max, prices })
    })
}

impl Fleet {
    /// What a plan costs in an hour, if there is such a plan then.
    pub fn rate_card(&self, plan: &PlanName, hour: Hour) -> Option<RateCard> {
        let first = RateKey { plan: plan.clone(), valid_from: Hour(0) };
        let last = RateKey { plan: plan.clone(), valid_from: hour };
        let set = self.ledger_rates.range(first..=last).next_back().map(|(_, card)| card.clone());
        set.or_else(|| list_cards().find(|card| card.plan == *plan))
    }

    /// Every rate card, list prices included, by plan and hour.
    pub fn rate_cards(&self) -> Vec<RateCard> {
        let mut cards: Vec<RateCard> =
            list_cards().chain(self.ledger_rates.values().cloned()).collect();
        cards.sort_by(|one, other| {
            (&one.plan, one.valid_from).cmp(&(&other.plan, other.valid_from))
        });
        cards
    }

    /// The plan of a project in an hour. A project without one has no bound, and its usage no price.
    pub fn plan_of(&self, project: &ProjectName, hour: Hour) -> Option<&PlanName> {
        self.ledger_plans.get(project)?.at(hour)
    }

    /// The plans of all projects that ever had one.
    pub fn plans(&self) -> impl Iterator<Item = (&ProjectName, &PlanHistory)> {
        self.ledger_plans.iter()
    }

    pub(in crate::state) fn set_rate(&mut self, now: &mut Applying, card: &RateCard) -> Reply {
        let key = RateKey { plan: card.plan.clone(), valid_from: card.valid_from };
        let begun = Hour::of(now.at);
        let invalid = |field: &str, problem: String| {
            Err(Refusal::Invalid { field: field.to_owned(), problem })
        };
        if card.valid_from <= begun {
            return Err(Refusal::RateBegun { next: begun.next() });
        }
        for (dimension, price) in Dimension::ALL.into_iter().zip(card.prices) {
            if !price.is_valid() {
                let problem = format!(
                    "at most {PRICE_MICRO_DOLLARS_MAX} micro-dollars for 1, 10, 100 … 1,000,000 units"
                );
                return invalid(&format!("prices.{}", dimension.word()), problem);
            }
        }
        let is_new = self.ledger_rates.get(&key).is_none();
        if is_new && self.ledger_rates.len() >= RATE_CARDS_MAX {
            return Err(Refusal::Full(format!("{RATE_CARDS_MAX} rate cards")));
        }
        let message = format!("plan {} has other prices from {}", key.plan, key.valid_from);
        self.ledger_rates.insert(key.clone(), card.clone());
        self.emit(now, EventKind::RateSet, About::of(Subject::Rate(key)), message);
        Ok(Accepted::Nothing)
    }

    /// Gives a project a plan from an hour on, the present one at the earliest. What was to hold from then on is
    /// replaced.
    pub(in crate::state) fn set_plan(
        &mut self,
        now: &mut Applying,
        project: &ProjectName,
        plan: &PlanName,
        from: Hour,
    ) -> Reply {
        self.known_project(project)?;
        let present = Hour::of(now.at);
        if from < present {
            return Err(Refusal::RateBegun { next: present });
        }
        if self.rate_card(plan, from).is_none() {
            let field = "plan".to_owned();
            let problem = format!("there is no plan `{plan}` at {from}; set its rates first");
            return Err(Refusal::Invalid { field, problem });
        }
        let mut history = self.ledger_plans.get(project).cloned().unwrap_or_default();
        history.changes.retain(|(begin, _)| *begin < from);
        if history.changes.len() >= PLAN_CHANGES_MAX {
            return Err(Refusal::Full(format!("{PLAN_CHANGES_MAX} changes of a project's plan")));
        }
        let before = json!({ "plan": self.plan_of(project, from) });
        let after = json!({ "plan": plan, "from": from.to_string() });
        let change = Change::between(Some(&before), Some(&after));
        history.changes.push((from, plan.clone()));
        self.ledger_plans.insert(project.clone(), history);
        let about = About::of(Subject::Plan(project.clone())).with(change);
        let message = format!("project {project} has plan {plan} from {from}");
        self.emit(now, EventKind::PlanSet, about, message);
        Ok(Accepted::Nothing)
    }

    /// Whether a project's plan has room for one more machine.
    pub(in crate::state) fn check_plan(
        &self,
        now: Timestamp,
        project: &ProjectName,
    ) -> Result<(), Refusal> {
        let hour = Hour::of(now);
        let Some(plan) = self.plan_of(project, hour) else { return Ok(()) };
        let Some(vms_max) = self.rate_card(plan, hour).and_then(|card| card.vms_max) else {
            return Ok(());
        };
        if self.project_usage(project).vms < u64::from(vms_max) {
            return Ok(());
        }
        let upgrade = UPGRADES.iter().find(|(from, _)| *from == plan.as_str());
        let hint = match upgrade {
            Some((_, to)) => format!("; the plan `{to}` has room for more"),
            None => "; ask for a plan with room for more".to_owned(),
        };
        Err(Refusal::PlanFull { plan: plan.clone(), vms_max, hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_order_as_their_bytes() {
        let key =
            |plan: &str, hour| RateKey { plan: plan.parse().unwrap(), valid_from: Hour(hour) };
        let keys = [key("a", 1), key("a", 256), key("a-b", 0), key("ab", 0)];
        let bytes: Vec<_> = keys.iter().map(Key::encode).collect();
        assert!(keys.is_sorted() && bytes.is_sorted());
        let back: Vec<_> = bytes.iter().map(|bytes| RateKey::decode(bytes).unwrap()).collect();
        assert_eq!(back, keys);
    }

    #[test]
    fn list_prices_are_those_of_the_plans() {
        let cards: Vec<_> = list_cards().collect();
        assert_eq!(cards.len(), LIST.len());
        assert_eq!(cards[0].price(Dimension::VmHours).pico_dollars(), 150_000_000_000);
        assert_eq!(cards[1].vms_max, Some(1_000));
        assert_eq!(cards[2].vms_max, None);
    }

    #[test]
    fn a_plan_holds_until_the_next_one() {
        let (a, b): (PlanName, PlanName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let history = PlanHistory { changes: vec![(Hour(5), a.clone()), (Hour(9), b.clone())] };
        assert_eq!(history.at(Hour(4)), None);
        assert_eq!(history.at(Hour(8)), Some(&a));
        assert_eq!(history.at(Hour(9)), Some(&b));
    }
}
