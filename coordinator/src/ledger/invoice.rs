//! What the projects owe for a month: lines by project, dimension and rate, recomputed from summaries for each reader.
//!
//! A month's invoice is about what was *posted* into its windows: what came late or was corrected after a month's last
//! window was sealed is on the next invoice, at the rate of the hour of its use. So an invoice that is final stays it.

use std::collections::BTreeMap;

use novacron_protocol::api::{
    Allocation, Invoice, InvoiceLine, InvoiceStatus, PriceView, ProjectTotal, Whole,
};
use novacron_protocol::ids::{PlanName, ProjectName, VmId};
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::Labels;

use super::allocation::{split_money, tags};
use super::period::{self, PeriodError};
use super::rating::Rating;
use super::{Ledger, LedgerError};
use crate::state::Fleet;
use crate::state::binding::Reach;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Dimension, PlanHistory, Price, RateCard};
use crate::state::ledger::sums::Summary;

/// Why there is no invoice.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// That is no month.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// A window is not at hand.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is asked of an invoice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvoiceFilter {
    /// Only where whoever asks may read it; everywhere unless said.
    pub within: Option<Reach>,
    /// Only this project's.
    pub project: Option<ProjectName>,
    /// Labels by which each line is split.
    pub allocate: Vec<String>,
}

impl InvoiceFilter {
    fn lets_through(&self, project: &ProjectName) -> bool {
        self.within.as_ref().is_none_or(|reach| reach.covers_project(project))
            && self.project.as_ref().is_none_or(|wanted| wanted == project)
    }
}

/// Rates as they are when somebody asks; those of hours that have begun do not change.
#[derive(Debug, Clone, Default)]
pub struct Tariff {
    /// By plan and hour, ascending.
    cards: Vec<RateCard>,
    plans: BTreeMap<ProjectName, PlanHistory>,
}

impl Tariff {
    /// The rates of a fleet.
    pub fn of(fleet: &Fleet) -> Self {
        let plans = fleet.plans().map(|(project, history)| (project.clone(), history.clone()));
        Self { cards: fleet.rate_cards(), plans: plans.collect() }
    }

    /// What a project pays for an hour; nothing if it had no plan then.
    pub(super) fn card(&self, project: &ProjectName, hour: Hour) -> Option<&RateCard> {
        let plan = self.plans.get(project)?.at(hour)?;
        self.cards.iter().rev().find(|card| card.plan == *plan && card.valid_from <= hour)
    }
}

/// Which line: in this order on the invoice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    project: ProjectName,
    dimension: Dimension,
    rate: Option<(Hour, PlanName)>,
}

#[derive(Debug, Clone)]
struct Line {
    meter: Meter,
    price: Price,
    quantity: i128,
    parts: BTreeMap<Labels, i128>,
}

/// Lines that are being added up.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    lines: BTreeMap<LineKey, Line>,
}

impl Ledger {
    /// The invoice of a month such as `2026-11`.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn invoice(&self, month: &str, filter: &InvoiceFilter) -> Result<Invoice, InvoiceError> {
        let windows = period::month(month)?;
        let fleet = self.frozen();
        let (tariff, mut lines) = (Tariff::of(&fleet), Lines::default());
        let last = self.summaries(&fleet, windows.clone(), |summary| {
            lines.add(&summary, &tariff, filter);
            Ok(())
        })?;
        let is_final = fleet.book().sealed_before >= windows.end;
        let status = if is_final { InvoiceStatus::Final } else { InvoiceStatus::Draft };
        let (lines, totals, micro_dollars) = lines.rate(filter)?;
        Ok(Invoice {
            period: month.to_owned(),
            from: windows.start.begin(),
            to: windows.end.begin(),
            status,
            lines,
            totals,
            micro_dollars,
            chain: last.map(|header| header.chain.to_string()),
        })
    }
}

/// Lines, totals of projects, and the sum.
type Rated = (Vec<InvoiceLine>, Vec<ProjectTotal>, i64);

impl Lines {
    /// Adds what was used in a window.
    pub fn add(&mut self, summary: &Summary, tariff: &Tariff, filter: &InvoiceFilter) {
        let labels: BTreeMap<VmId, &Labels> = match filter.allocate.is_empty() {
            true => BTreeMap::new(),
            false => summary.machines.iter().map(|then| (then.vm, &then.labels)).collect(),
        };
        for (key, net) in &summary.uses {
            let Some(project) = summary.projects.get(usize::from(key.project)) else { continue };
            if !filter.lets_through(project) {
                continue;
            }
            let line = self.line(project, key.meter, tariff.card(project, key.used));
            line.quantity = line.quantity.saturating_add(*net);
            if !filter.allocate.is_empty() {
                let tags = tags(labels.get(&key.vm).copied(), &filter.allocate);
                let part = line.parts.entry(tags).or_insert(0);
                *part = part.saturating_add(*net);
            }
        }
    }

    fn line(&mut self, project: &ProjectName, meter: Meter, card: Option<&RateCard>) -> &mut Line {
        let dimension = Dimension::of(meter);
        let rate = card.map(|card| (card.valid_from, card.plan.clone()));
        let price = card.map_or(Price::each(0), |card| card.price(dimension));
        let key = LineKey { project: project.clone(), dimension, rate };
        let empty = || Line { meter, price, quantity: 0, parts: BTreeMap::new() };
        self.lines.entry(key).or_insert_with(empty)
    }

    /// Rates all lines in order.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`].
    pub fn rate(self, filter: &InvoiceFilter) -> Result<Rated, LedgerError> {
        let mut rated: Rated = (Vec::new(), Vec::new(), 0);
        let mut rating: Option<(ProjectName, Dimension, Rating)> = None;
        for (key, line) in self.lines {
            let same = rating.take().filter(|(project, dimension, _)| {
                *project == key.project && *dimension == key.dimension
            });
            let mut carried = same.map_or(Rating::new(key.dimension), |(_, _, carried)| carried);
            let money = carried.line(line.quantity, line.price);
            let money = money.map_err(|_| LedgerError::OutOfRange)?;
            rating = Some((key.project.clone(), key.dimension, carried));
            add_total(&mut rated, &key.project, money)?;
            rated.0.push(show(key, &line, money, !filter.allocate.is_empty()));
        }
        Ok(rated)
    }
}

fn add_total(rated: &mut Rated, project: &ProjectName, money: i64) -> Result<(), LedgerError> {
    let (_, totals, sum) = rated;
    *sum = sum.checked_add(money).ok_or(LedgerError::OutOfRange)?;
    match totals.last_mut().filter(|total| total.project == *project) {
        Some(total) => {
            let more = total.micro_dollars.checked_add(money);
            total.micro_dollars = more.ok_or(LedgerError::OutOfRange)?;
        }
        None => {
            totals.push(ProjectTotal { project: project.clone(), micro_dollars: money });
        }
    }
    Ok(())
}

fn show(key: LineKey, line: &Line, micro_dollars: i64, is_split: bool) -> InvoiceLine {
    let LineKey { project, dimension, rate } = key;
    let shares = split_money(micro_dollars, &line.parts);
    let allocations = line.parts.iter().zip(shares).filter(|_| is_split);
    InvoiceLine {
        project,
        dimension: dimension.word().to_owned(),
        rate_from: rate.as_ref().map(|(from, _)| from.begin()),
        plan: rate.map(|(_, plan)| plan),
        price: PriceView {
            micro_dollars: line.price.micro_dollars,
            per_units: line.price.per_units,
        },
        meter: line.meter,
        quantity: Whole(line.quantity),
        base_units: dimension.base_units(),
        micro_dollars,
        allocations: allocations
            .map(|((tags, quantity), micro_dollars)| Allocation {
                tags: tags.clone(),
                quantity: Whole(*quantity),
                micro_dollars,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ledger::sums::{MachineThen, UseKey};
    use uuid::Uuid;

    fn plan(name: &str) -> PlanName {
        name.parse().unwrap()
    }

    fn card(name: &str, from: u64, vm_hour: u64) -> RateCard {
        let mut prices = [Price::each(0); 5];
        prices[0] = Price::each(vm_hour);
        RateCard { plan: plan(name), valid_from: Hour(from), vms_max: None, prices }
    }

    fn tariff() -> Tariff {
        let changes = vec![(Hour(10), plan("a")), (Hour(20), plan("b"))];
        let plans = BTreeMap::from([(ProjectName::default(), PlanHistory { changes })]);
        Tariff { cards: vec![card("a", 0, 3_600), card("a", 15, 7_200), card("b", 0, 1)], plans }
    }

    fn summary(uses: &[(u64, u128, i128)]) -> Summary {
        let vm = |number| VmId(Uuid::from_u128(number));
        let labels = Labels::from([("team".to_owned(), "red".to_owned())]);
        let use_of = |(used, number, net): &(u64, u128, i128)| {
            let (vm, used) = (vm(*number), Hour(*used));
            (UseKey { vm, project: 0, meter: Meter::VmSeconds, used }, *net)
        };
        Summary {
            window: Hour(30),
            projects: vec![ProjectName::default()],
            uses: uses.iter().map(use_of).collect(),
            machines: vec![MachineThen { vm: vm(1), name: "web".to_owned(), labels }],
        }
    }

    fn rate(uses: &[(u64, u128, i128)], allocate: &[&str]) -> Rated {
        let allocate = allocate.iter().map(ToString::to_string).collect();
        let filter = InvoiceFilter { allocate, ..InvoiceFilter::default() };
        let mut lines = Lines::default();
        lines.add(&summary(uses), &tariff(), &filter);
        lines.rate(&filter).unwrap()
    }

    #[test]
    fn the_hour_of_use_decides_the_rate() {
        let uses = [(5, 1, 10), (12, 1, 10), (14, 2, 10), (15, 1, 10), (25, 1, 10)];
        let (lines, totals, sum) = rate(&uses, &[]);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                (line.plan.as_ref().map(PlanName::as_str), line.quantity.0, line.micro_dollars)
            })
            .collect();
        let expected =
            [(None, 10, 0), (Some("a"), 20, 20), (Some("b"), 10, 0), (Some("a"), 10, 20)];
        // In the order of the hours from which the rates hold.
        assert_eq!(shown, expected);
        assert_eq!((totals.len(), totals[0].micro_dollars, sum), (1, 40, 40));
    }

    #[test]
    fn a_correction_can_make_a_line_negative() {
        let (lines, _, sum) = rate(&[(12, 1, -30)], &[]);
        assert_eq!((lines[0].micro_dollars, sum), (-30, -30));
    }

    #[test]
    fn lines_are_split_by_tags_without_a_rest() {
        let (lines, _, _) = rate(&[(12, 1, 7), (12, 2, 4)], &["team"]);
        let parts = &lines[0].allocations;
        assert_eq!(parts.len(), 2);
        assert!(parts[0].tags.is_empty(), "machines without the label come first");
        assert_eq!((parts[0].quantity.0, parts[1].quantity.0), (4, 7));
        assert_eq!((parts[0].micro_dollars, parts[1].micro_dollars), (4, 7));
    }
}
