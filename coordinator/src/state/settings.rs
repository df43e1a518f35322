//! What operators set for the whole fleet. It is part of the replicated state, and not of a coordinator's
//! configuration, because what is applied depends on it: two members that were configured differently would come to
//! different fleets.

use novacron_protocol::api::{ClusterSettings, EventKind, SettingsChange};
use novacron_protocol::limits::{MIGRATIONS_PER_NODE_DEFAULT, MIGRATIONS_PER_NODE_RANGE};
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::reply::{Accepted, Refusal, Reply};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Migrations that a node takes part in at once, in [`MIGRATIONS_PER_NODE_RANGE`].
    pub migrations_per_node: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { migrations_per_node: MIGRATIONS_PER_NODE_DEFAULT }
    }
}

impl From<Settings> for ClusterSettings {
    fn from(settings: Settings) -> Self {
        Self { migrations_per_node: settings.migrations_per_node }
    }
}

impl Fleet {
    /// What operators have set.
    pub fn settings(&self) -> Settings {
        self.meta.settings
    }

    /// Migrations that are under way go on, also where they are more than a new limit.
    pub(super) fn change_settings(&mut self, now: &mut Applying, change: SettingsChange) -> Reply {
        let Some(limit) = change.migrations_per_node else { return Ok(Accepted::Nothing) };
        if !MIGRATIONS_PER_NODE_RANGE.contains(&limit) {
            let (least, most) =
                (MIGRATIONS_PER_NODE_RANGE.start(), MIGRATIONS_PER_NODE_RANGE.end());
            return Err(Refusal::Invalid {
                field: "migrations_per_node".to_owned(),
                problem: format!("{limit} migrations at once; a node has {least} to {most}"),
            });
        }
        if limit != self.meta.settings.migrations_per_node {
            self.meta.settings.migrations_per_node = limit;
            let message = format!("a node takes part in up to {limit} migrations at once");
            self.emit(now, EventKind::SettingsChanged, About::of(Subject::Settings), message);
            self.begin_queued_migrations(now);
        }
        Ok(Accepted::Nothing)
    }
}
