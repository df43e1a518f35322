//! What the API stands on: every handler gets an [`App`] and nothing else.

use crate::admission::Admission;
use crate::agents::Consoles;
use crate::audit::AuditLog;
use crate::backup::Backups;
use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::metrics::RequestMetrics;
use crate::propose::Proposer;
use crate::readiness::Readiness;
use crate::refusals::Refusals;
use crate::samples::Samples;
use crate::secrets::Secrets;
use crate::switches::Switches;
use crate::view::{View, Watchers};

/// The doors of a running coordinator. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Changes.
    pub proposer: Proposer,
    /// Reads.
    pub view: View,
    /// Who changed what.
    pub audit: AuditLog,
    /// What was used, and what it costs.
    pub ledger: Ledger,
    /// Serial consoles.
    pub consoles: Consoles,
    /// The coordinators themselves, and join tokens.
    pub cluster: Cluster,
    /// What is kept encrypted.
    pub secrets: Secrets,
    /// What agents measured.
    pub samples: Samples,
    /// The whole state, for a backup.
    pub backups: Backups,
    /// Whether this member can serve.
    pub readiness: Readiness,
    /// Who follows what happens.
    pub watchers: Watchers,
    /// What is turned off.
    pub switches: Switches,
    /// How much one client may ask.
    pub admission: Admission,
    /// Who was refused.
    pub refusals: Refusals,
    /// Where requests are counted.
    pub requests: RequestMetrics,
}
