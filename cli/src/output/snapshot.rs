//! Snapshots of machines.

use novacron_protocol::api::SnapshotView;

use super::text::{or_dash, or_nothing, word};
use super::{Fields, Row, Show};

impl Row for SnapshotView {
    const HEADER: &'static [&'static str] =
        &["NAME", "STATE", "PARENT", "CURRENT", "CREATED", "REASON"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            word(&self.state),
            or_dash(self.parent.as_ref()),
            if self.is_current { "*".to_owned() } else { String::new() },
            self.created_at.to_string(),
            self.reason.clone(),
        ]
    }
}

impl Show for SnapshotView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("machine", self.vm_name.to_string()),
            ("state", word(&self.state)),
            ("reason", self.reason.clone()),
            ("parent", or_nothing(self.parent.as_ref())),
            ("current", if self.is_current { "yes".to_owned() } else { "no".to_owned() }),
            ("created", self.created_at.to_string()),
            ("ready", or_nothing(self.ready_at)),
            ("id", self.id.to_string()),
        ]
    }
}
