//! Alerts.

use novacron_protocol::api::{AlertDeed, AlertTotals, AlertView};

use super::text::{or_dash, word};
use super::{Fields, Row, Show};

impl Row for AlertView {
    const HEADER: &'static [&'static str] =
        &["ID", "SEVERITY", "STATE", "SINCE", "RAISES", "KIND", "OBJECT", "SUMMARY"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            word(&self.severity),
            word(&self.state),
            self.since.to_string(),
            self.raises.to_string(),
            self.kind.clone(),
            self.object.clone(),
            self.summary.clone(),
        ]
    }
}

impl Show for AlertView {
    fn fields(&self) -> Fields {
        let mut fields = vec![
            ("id", self.id.to_string()),
            ("severity", word(&self.severity)),
            ("state", word(&self.state)),
            ("kind", self.kind.clone()),
            ("object", self.object.clone()),
            ("summary", self.summary.clone()),
            ("project", or_dash(self.project.as_ref())),
            ("region", or_dash(self.region.as_ref())),
            ("raised", format!("{} times, first by {}", self.raises, self.raised_by)),
            ("since", self.since.to_string()),
            ("last raised", self.last_raised_at.to_string()),
        ];
        fields.extend(self.acknowledged.as_ref().map(|deed| ("acknowledged", deed_line(deed))));
        fields.extend(self.resolved.as_ref().map(|deed| ("resolved", deed_line(deed))));
        fields.extend(self.previous.map(|previous| ("previous", previous.to_string())));
        fields
    }
}

fn deed_line(deed: &AlertDeed) -> String {
    let note = if deed.note.is_empty() { String::new() } else { format!(": {}", deed.note) };
    format!("{} by {}{note}", deed.at, deed.by)
}

/// Alerts that fire, in one line.
pub fn totals_line(totals: &AlertTotals) -> String {
    let AlertTotals { critical, warning, info } = totals;
    match critical + warning + info {
        0 => "none fires".to_owned(),
        _ => format!("{critical} critical, {warning} warning, {info} info"),
    }
}
