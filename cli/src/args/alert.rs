//! `novacron alert`.

use clap::{Args, Subcommand};
use novacron_protocol::api::{self, AlertStateFilter, Severity};
use novacron_protocol::ids::AlertId;
use novacron_sdk::AlertFilter;

use super::values::{parse_alert, parse_word};

/// Alerts: what somebody has to look at.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// Lists alerts that are not resolved.
    List(AlertList),
    /// Shows an alert.
    Show {
        /// The alert.
        #[arg(value_parser = parse_alert)]
        alert: AlertId,
    },
    /// Raises an alert; one with the same key and object that is not resolved is counted.
    Raise(AlertRaise),
    /// Says that you look at an alert.
    Ack {
        /// The alert.
        #[arg(value_parser = parse_alert)]
        alert: AlertId,
        /// What the next reader should know.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Says that nobody looks at an alert any more.
    Unack {
        /// The alert.
        #[arg(value_parser = parse_alert)]
        alert: AlertId,
    },
    /// Says that an alert is over. What the cluster itself watches, it resolves itself.
    Resolve {
        /// The alert.
        #[arg(value_parser = parse_alert)]
        alert: AlertId,
        /// What the next reader should know.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
}

/// Which alerts.
#[derive(Debug, Args)]
pub struct AlertList {
    /// Also those that are resolved.
    #[arg(long, conflicts_with = "state")]
    pub all: bool,
    /// Only those that stand so: open, firing, acknowledged or resolved [default: open].
    #[arg(long, value_parser = parse_word::<AlertStateFilter>)]
    pub state: Option<AlertStateFilter>,
    /// Only those of this severity: critical, warning or info.
    #[arg(long, value_parser = parse_word::<Severity>)]
    pub severity: Option<Severity>,
    /// Only those of this kind, such as node-unreachable.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only those about this, such as node/node-01, vm/web-01 or cluster.
    #[arg(long)]
    pub object: Option<String>,
    /// Only those of this project.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Only those about what is in this region.
    #[arg(long)]
    pub region: Option<String>,
}

impl AlertList {
    /// The API's filter.
    pub fn filter(&self) -> AlertFilter {
        let open = (!self.all).then_some(AlertStateFilter::Open);
        AlertFilter {
            state: self.state.or(open),
            severity: self.severity,
            kind: self.kind.clone(),
            object: self.object.clone(),
            project: self.project.clone(),
            region: self.region.clone(),
        }
    }
}

/// An alert to raise.
#[derive(Debug, Args)]
pub struct AlertRaise {
    /// What is wrong, as a name such as backup-late.
    pub key: String,
    /// With what: vm/web-01, project/web, migration/ID, node/node-01, region/eu, member/1 or cluster.
    pub object: String,
    /// In one line, for a person.
    pub summary: String,
    /// How bad it is: critical, warning or info.
    #[arg(long, default_value = "warning", value_parser = parse_word::<Severity>)]
    pub severity: Severity,
}

impl AlertRaise {
    /// The API's request.
    pub fn request(&self) -> api::AlertRaise {
        api::AlertRaise {
            key: self.key.clone(),
            severity: self.severity,
            summary: self.summary.clone(),
            object: self.object.clone(),
        }
    }
}
