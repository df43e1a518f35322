//! Quantities, grouped by what somebody wants to know.

use std::collections::BTreeMap;
use std::ops::Range;

use novacron_protocol::api::{UsageRow, Whole};
use novacron_protocol::ids::{ProjectName, VmId};
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::Labels;

use super::period::day_of;
use super::{Ledger, LedgerError};
use crate::state::binding::Reach;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::sums::{Summary, UseKey};

/// What quantities are grouped by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// By nothing but the meter.
    #[default]
    Meter,
    /// By the hour of the window.
    Hour,
    /// By the day of the window.
    Day,
    /// By machine.
    Vm,
    /// By project.
    Project,
    /// By the value of a label.
    Label(String),
}

impl GroupBy {
    /// What a text of the API means.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "meter" => Self::Meter,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "vm" => Self::Vm,
            "project" => Self::Project,
            _ => Self::Label(text.strip_prefix("label:").filter(|key| !key.is_empty())?.to_owned()),
        })
    }
}

/// Which usage, and how it is grouped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only where whoever asks may read it; everywhere unless said.
    pub within: Option<Reach>,
    /// Only this project's.
    pub project: Option<ProjectName>,
    /// Only this machine's.
    pub vm: Option<VmId>,
    /// Only of this meter.
    pub meter: Option<Meter>,
    /// Grouped by what.
    pub group_by: GroupBy,
}

/// A group: nothing for machines without the label, or for all.
type Group = Option<String>;

#[derive(Debug, Default)]
pub(super) struct Table {
    sums: BTreeMap<(Group, Meter), i128>,
    names: BTreeMap<String, String>,
}

impl Ledger {
    /// What was used in windows, a row for each group and meter, in order.
    ///
    /// # Errors
    /// [`LedgerError`] if a window is not at hand.
    pub fn usage(
        &self,
        windows: Range<Hour>,
        filter: &UsageFilter,
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let mut table = Table::default();
        self.summaries(&self.frozen(), windows, |summary| {
            table.add(&summary, filter);
            Ok(())
        })?;
        Ok(table.rows())
    }
}

impl Table {
    pub(super) fn add(&mut self, summary: &Summary, filter: &UsageFilter) {
        let labels: BTreeMap<VmId, (&str, &Labels)> = summary
            .machines
            .iter()
            .map(|then| (then.vm, (then.name.as_str(), &then.labels)))
            .collect();
        for (key, net) in summary.uses.iter().filter(|(key, _)| filter.lets_through(summary, key)) {
            let machine = labels.get(&key.vm).copied();
            let group = filter.group(summary, key, machine.map(|(_, labels)| labels));
            if let (GroupBy::Vm, Some(id), Some((name, _))) = (&filter.group_by, &group, machine) {
                self.names.insert(id.clone(), name.to_owned());
            }
            let sum = self.sums.entry((group, key.meter)).or_insert(0);
            *sum = sum.saturating_add(*net);
        }
    }

    pub(super) fn rows(self) -> Vec<UsageRow> {
        let row = |((group, meter), quantity): ((Group, Meter), i128)| {
            let vm_name = group.as_ref().and_then(|group| self.names.get(group)).cloned();
            UsageRow { group, vm_name, meter, quantity: Whole(quantity) }
        };
        self.sums.into_iter().map(row).collect()
    }
}

impl UsageFilter {
    pub(super) fn lets_through(&self, summary: &Summary, key: &UseKey) -> bool {
        let project = summary.projects.get(usize::from(key.project));
        let may_read = |reach: &Reach| project.is_some_and(|project| reach.covers_project(project));
        self.within.as_ref().is_none_or(may_read)
            && self.vm.is_none_or(|vm| vm == key.vm)
            && self.meter.is_none_or(|meter| meter == key.meter)
            && self.project.as_ref().is_none_or(|wanted| project == Some(wanted))
    }

    fn group(&self, summary: &Summary, key: &UseKey, labels: Option<&Labels>) -> Group {
        match &self.group_by {
            GroupBy::Meter => None,
            GroupBy::Hour => Some(summary.window.to_string()),
            GroupBy::Day => Some(day_of(summary.window).to_string()),
            GroupBy::Vm => Some(key.vm.to_string()),
            GroupBy::Project => {
                summary.projects.get(usize::from(key.project)).map(ToString::to_string)
            }
            GroupBy::Label(label) => labels.and_then(|labels| labels.get(label)).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ledger::sums::MachineThen;
    use uuid::Uuid;

    fn summary(window: u64, uses: &[(u128, u16, Meter, i128)]) -> Summary {
        let labels = |number| match number {
            1 => Labels::from([("team".to_owned(), "red".to_owned())]),
            _ => Labels::new(),
        };
        let vm = |number| VmId(Uuid::from_u128(number));
        let then = |number| MachineThen {
            vm: vm(number),
            name: format!("vm-{number}"),
            labels: labels(number),
        };
        let window = Hour(window);
        let use_of = |(number, project, meter, net): &(u128, u16, Meter, i128)| {
            (UseKey { vm: vm(*number), project: *project, meter: *meter, used: window }, *net)
        };
        Summary {
            window,
            projects: ["default", "other"].map(|name| name.parse().unwrap()).into(),
            uses: uses.iter().map(use_of).collect(),
            machines: vec![then(1), then(2)],
        }
    }

    fn rows(filter: &UsageFilter) -> Vec<(Option<String>, Meter, i128)> {
        let mut table = Table::default();
        use Meter::{BytesMoved, VmSeconds};
        table.add(&summary(48, &[(1, 0, VmSeconds, 10), (2, 1, VmSeconds, 7)]), filter);
        table.add(&summary(71, &[(1, 0, VmSeconds, -3), (1, 0, BytesMoved, 5)]), filter);
        table.rows().into_iter().map(|row| (row.group, row.meter, row.quantity.0)).collect()
    }

    fn by(group_by: GroupBy) -> UsageFilter {
        UsageFilter { group_by, ..UsageFilter::default() }
    }

    #[test]
    fn quantities_are_grouped() {
        use Meter::{BytesMoved, VmSeconds};
        let text = |text: &str| Some(text.to_owned());
        let all = rows(&by(GroupBy::Meter));
        assert_eq!(all, [(None, VmSeconds, 14), (None, BytesMoved, 5)]);
        let days = rows(&by(GroupBy::Day));
        assert_eq!(days[0], (text("1970-01-03T00:00:00.000Z"), VmSeconds, 14));
        assert_eq!(rows(&by(GroupBy::Hour)).len(), 3);
        let projects = rows(&by(GroupBy::Project));
        assert_eq!(projects[2], (text("other"), VmSeconds, 7));
        let teams = rows(&by(GroupBy::Label("team".to_owned())));
        let expected =
            [(None, VmSeconds, 7), (text("red"), VmSeconds, 7), (text("red"), BytesMoved, 5)];
        assert_eq!(teams, expected);
    }

    #[test]
    fn usage_is_filtered() {
        let filter = UsageFilter { project: Some("other".parse().unwrap()), ..by(GroupBy::Meter) };
        assert_eq!(rows(&filter), [(None, Meter::VmSeconds, 7)]);
        let filter = UsageFilter { meter: Some(Meter::BytesMoved), ..by(GroupBy::Meter) };
        assert_eq!(rows(&filter), [(None, Meter::BytesMoved, 5)]);
        let filter = UsageFilter { vm: Some(VmId(Uuid::from_u128(2))), ..by(GroupBy::Vm) };
        assert_eq!(rows(&filter).len(), 1);
    }

    #[test]
    fn groups_have_names() {
        assert_eq!(GroupBy::parse("label:team"), Some(GroupBy::Label("team".to_owned())));
        assert_eq!(GroupBy::parse("vm"), Some(GroupBy::Vm));
        for bad in ["", "label:", "team", "Hour"] {
            assert_eq!(GroupBy::parse(bad), None, "{bad}");
        }
    }
}
