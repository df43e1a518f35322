//! Finding alerts by key, owner and age: derived from the table, never stored.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::alert::AlertKey;
use novacron_protocol::ids::{AlertId, ProjectName, Revision};
use novacron_protocol::time::Timestamp;
use uuid::Uuid;

use super::Alert;

/// Whose an alert is: a project's or the fleet's.
type Owner = Option<ProjectName>;

/// Indexes over alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::state) struct AlertIndex {
    open: BTreeMap<AlertKey, AlertId>,
    /// All that are kept, by key, in the order in which they were raised.
    by_key: BTreeSet<(AlertKey, Revision, AlertId)>,
    /// Resolved ones, the oldest first.
    resolved: BTreeSet<(Timestamp, AlertId)>,
    /// The same, by owner.
    resolved_of: BTreeMap<Owner, BTreeSet<(Timestamp, AlertId)>>,
    /// Open ones of clients, by owner.
    named_open: BTreeMap<Owner, usize>,
}

impl AlertIndex {
    pub(in crate::state) fn add(&mut self, alert: &Alert) {
        self.by_key.insert((alert.key.clone(), alert.raised, alert.id));
        match alert.resolved_at() {
            Some(at) => {
                self.resolved.insert((at, alert.id));
                self.resolved_of.entry(alert.project.clone()).or_default().insert((at, alert.id));
            }
            None => {
                self.open.insert(alert.key.clone(), alert.id);
                if alert.is_named() {
                    *self.named_open.entry(alert.project.clone()).or_default() += 1;
                }
            }
        }
    }

    pub(in crate::state) fn remove(&mut self, alert: &Alert) {
        self.by_key.remove(&(alert.key.clone(), alert.raised, alert.id));
        match alert.resolved_at() {
            Some(at) => {
                self.resolved.remove(&(at, alert.id));
                self.remove_resolved_of(&alert.project, (at, alert.id));
            }
            None => {
                self.open.remove(&alert.key);
                if alert.is_named() {
                    self.remove_named(&alert.project);
                }
            }
        }
    }

    fn remove_resolved_of(&mut self, owner: &Owner, entry: (Timestamp, AlertId)) {
        let Some(own) = self.resolved_of.get_mut(owner) else { return };
        own.remove(&entry);
        if own.is_empty() {
            self.resolved_of.remove(owner);
        }
    }

    fn remove_named(&mut self, owner: &Owner) {
        let Some(count) = self.named_open.get_mut(owner) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.named_open.remove(owner);
        }
    }

    /// Open ones, in the order of their keys.
    pub(super) fn open(&self) -> impl Iterator<Item = AlertId> + use<'_> {
        self.open.values().copied()
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn open_with(&self, key: &AlertKey) -> Option<AlertId> {
        self.open.get(key).copied()
    }

    pub(super) fn latest_with(&self, key: &AlertKey) -> Option<AlertId> {
        let end = |revision, id| (key.clone(), Revision(revision), AlertId(id));
        let mut own = self.by_key.range(end(0, Uuid::nil())..=end(u64::MAX, Uuid::max()));
        own.next_back().map(|(_, _, id)| *id)
    }

    /// Open ones that clients of a project raised, or those of the fleet.
    pub(super) fn named_open_of(&self, owner: &Owner) -> usize {
        self.named_open.get(owner).copied().unwrap_or_default()
    }

    /// Open ones that clients raised.
    pub(super) fn named_open(&self) -> usize {
        self.named_open.values().sum()
    }

    pub(super) fn resolved_count(&self) -> usize {
        self.resolved.len()
    }

    pub(super) fn resolved_count_of(&self, owner: &Owner) -> usize {
        self.resolved_of.get(owner).map_or(0, BTreeSet::len)
    }

    pub(super) fn oldest_resolved(&self) -> Option<(Timestamp, AlertId)> {
        self.resolved.first().copied()
    }

    pub(super) fn oldest_resolved_of(&self, owner: &Owner) -> Option<AlertId> {
        self.resolved_of.get(owner)?.first().map(|(_, id)| *id)
    }
}
