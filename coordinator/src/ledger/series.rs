//! Quantities and money over time: a point for each hour or day, also where nothing was used.
//!
//! A point holds what was *posted* into its windows, as `usage` grouped by hour or day does, so that the sums of all points
//! are those of `usage` for the same time. What came late is priced by the hour of its use. Money is rounded once for each
//! project, dimension and point, and what rounding took is carried to the next point: the sum of all points is never
//! further than half a micro-dollar for each project and dimension from the exact sum.

use std::collections::BTreeMap;
use std::ops::Range;

use novacron_protocol::api::{USAGE_POINTS_MAX, UsagePoint, UsageSeries, UsageStep, Whole};
use novacron_protocol::ids::{PlanName, ProjectName};
use novacron_protocol::usage::Meter;

use super::invoice::Tariff;
use super::period::day_of;
use super::rating::Rating;
use super::usage::UsageFilter;
use super::{Ledger, LedgerError};
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Dimension, Price};
use crate::state::ledger::sums::Summary;

/// There would be too many points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{points} points are more than the {USAGE_POINTS_MAX} of one answer: ask by day, or for at most {USAGE_POINTS_MAX} hours"
)]
pub struct TooManyPoints {
    points: u64,
}

/// Windows in points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    windows: Range<Hour>,
    by: UsageStep,
}

impl Steps {
    /// A point for each hour or day of windows; the first and the last day may be parts of one.
    ///
    /// # Errors
    /// [`TooManyPoints`].
    pub fn new(windows: Range<Hour>, by: UsageStep) -> Result<Self, TooManyPoints> {
        let steps = Self { windows, by };
        let points = steps.begins().count() as u64;
        (points <= USAGE_POINTS_MAX).then_some(steps).ok_or(TooManyPoints { points })
    }

    /// The windows that begin a point.
    fn begins(&self) -> impl Iterator<Item = Hour> {
        let all = (self.windows.start.0..self.windows.end.0).map(Hour);
        all.filter(|window| self.begin_of(*window) == *window)
    }

    /// The window that begins the point of one.
    fn begin_of(&self, window: Hour) -> Hour {
        match self.by {
            UsageStep::Hour => window,
            UsageStep::Day => day_of(window).max(self.windows.start),
        }
    }
}

/// What is paid by one price.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PriceKey {
    project: ProjectName,
    dimension: Dimension,
    from: Hour,
    plan: PlanName,
}

/// A point that is being added up.
#[derive(Debug, Clone)]
struct Point {
    sums: BTreeMap<Meter, i128>,
    priced: BTreeMap<PriceKey, (Price, i128)>,
}

/// Points that are being added up, in the order of windows. What a point needs until it is finished grows with the projects
/// that use something, so one is finished when the next one begins.
#[derive(Debug)]
pub(super) struct Series<'a> {
    steps: &'a Steps,
    filter: &'a UsageFilter,
    finished: Vec<UsagePoint>,
    ratings: Ratings,
    /// The one that is being added up, and those behind it, which are empty.
    points: BTreeMap<Hour, Point>,
}

impl Ledger {
    /// What was used over time, as far as a filter lets it through; its group counts for nothing.
    ///
    /// # Errors
    /// [`LedgerError`] if a window is not at hand.
    pub fn usage_series(
        &self,
        steps: &Steps,
        filter: &UsageFilter,
    ) -> Result<UsageSeries, LedgerError> {
        let fleet = self.frozen();
        let (tariff, mut series) = (Tariff::of(&fleet), Series::new(steps, filter));
        self.summaries(&fleet, steps.windows.clone(), |summary| series.add(&summary, &tariff))?;
        series.finish()
    }
}

impl<'a> Series<'a> {
    pub(super) fn new(steps: &'a Steps, filter: &'a UsageFilter) -> Self {
        let meters = Meter::ALL.into_iter();
        let meters = meters.filter(|meter| filter.meter.is_none_or(|wanted| wanted == *meter));
        let sums: BTreeMap<Meter, i128> = meters.map(|meter| (meter, 0)).collect();
        let empty = Point { sums, priced: BTreeMap::new() };
        let points = steps.begins().map(|begin| (begin, empty.clone())).collect();
        Self { steps, filter, finished: Vec::new(), ratings: Ratings::new(), points }
    }

    /// Adds what was used in a window, which is not before the one that was added last.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`].
    pub(super) fn add(&mut self, summary: &Summary, tariff: &Tariff) -> Result<(), LedgerError> {
        let begin = self.steps.begin_of(summary.window);
        self.finish_before(begin)?;
        let Some(point) = self.points.get_mut(&begin) else { return Ok(()) };
        let filter = self.filter;
        for (key, net) in summary.uses.iter().filter(|(key, _)| filter.lets_through(summary, key)) {
            let sum = point.sums.entry(key.meter).or_insert(0);
            *sum = sum.saturating_add(*net);
            let Some(project) = summary.projects.get(usize::from(key.project)) else { continue };
            let Some(card) = tariff.card(project, key.used) else { continue };
            let dimension = Dimension::of(key.meter);
            let (from, plan) = (card.valid_from, card.plan.clone());
            let price = PriceKey { project: project.clone(), dimension, from, plan };
            let priced = point.priced.entry(price).or_insert((card.price(dimension), 0));
            priced.1 = priced.1.saturating_add(*net);
        }
        Ok(())
    }

    fn finish_before(&mut self, begin: Hour) -> Result<(), LedgerError> {
        while let Some(point) = self.points.first_entry().filter(|point| *point.key() < begin) {
            let (begin, point) = point.remove_entry();
            self.finished.push(point.finish(begin, &mut self.ratings)?);
        }
        Ok(())
    }

    /// All points with what they cost.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`].
    pub(super) fn finish(mut self) -> Result<UsageSeries, LedgerError> {
        let Steps { windows, by } = self.steps.clone();
        self.finish_before(windows.end)?;
        let (from, to) = (windows.start.begin(), windows.end.begin());
        Ok(UsageSeries { from, to, by, points: self.finished })
    }
}

/// What rounding has left so far, by project and dimension.
type Ratings = BTreeMap<(ProjectName, Dimension), Rating>;

impl Point {
    fn finish(self, begin: Hour, ratings: &mut Ratings) -> Result<UsagePoint, LedgerError> {
        let mut micro_dollars = None;
        for (PriceKey { project, dimension, .. }, (price, quantity)) in self.priced {
            let rating = ratings.entry((project, dimension));
            let rating = rating.or_insert_with(|| Rating::new(dimension));
            let money = rating.line(quantity, price).map_err(|_| LedgerError::OutOfRange)?;
            let sum = micro_dollars.unwrap_or(0_i64).checked_add(money);
            micro_dollars = Some(sum.ok_or(LedgerError::OutOfRange)?);
        }
        let quantities = self.sums.into_iter().map(|(meter, sum)| (meter, Whole(sum)));
        Ok(UsagePoint { at: begin.begin(), quantities: quantities.collect(), micro_dollars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_begin_at_hours_or_days_and_are_bounded() {
        let steps = |from, to, by| Steps::new(Hour(from)..Hour(to), by);
        let begins = |from, to, by| -> Vec<u64> {
            steps(from, to, by).unwrap().begins().map(|hour| hour.0).collect()
        };
        assert_eq!(begins(46, 49, UsageStep::Hour), [46, 47, 48]);
        assert_eq!(begins(46, 73, UsageStep::Day), [46, 48, 72]);
        assert_eq!(begins(48, 72, UsageStep::Day), [48]);
        assert!(steps(0, USAGE_POINTS_MAX, UsageStep::Hour).is_ok());
        let refused = steps(0, USAGE_POINTS_MAX + 1, UsageStep::Hour).unwrap_err();
        assert_eq!(refused, TooManyPoints { points: USAGE_POINTS_MAX + 1 });
        assert!(refused.to_string().contains("ask by day"), "{refused}");
        assert!(steps(0, USAGE_POINTS_MAX + 1, UsageStep::Day).is_ok());
    }
}
