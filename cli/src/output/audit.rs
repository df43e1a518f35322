//! The audit log.

use novacron_protocol::api::{AuditActor, AuditEntry, AuditResult, AuditVerdict};

use super::text::{or_dash, or_nothing, word};
use super::{Fields, Row, Show};

impl Row for AuditEntry {
    const HEADER: &'static [&'static str] =
        &["NUMBER", "AT", "WHO", "FROM", "ACTION", "OBJECT", "RESULT"];

    fn row(&self) -> Vec<String> {
        self.columns().into()
    }
}

/// A record in columns.
trait Columns {
    fn columns(&self) -> [String; 7];
}

impl Columns for AuditEntry {
    fn columns(&self) -> [String; 7] {
        let (name, address) = match &self.actor {
            AuditActor::Cluster => ("(cluster)", None),
            AuditActor::Certificate { name, address } => (name.as_str(), address.as_ref()),
            AuditActor::ApiKey { name, address, .. } => (name.as_str(), address.as_ref()),
            AuditActor::Presented { shown, address } => (shown.as_str(), address.as_ref()),
        };
        let object = self.object.as_ref().and_then(|object| object.id.as_ref());
        let result = match &self.result {
            AuditResult::Done => "done".to_owned(),
            AuditResult::Refused { code, .. } => match self.times {
                Some(times) => format!("refused: {}, {} times", word(code), times.count),
                None => format!("refused: {}", word(code)),
            },
        };
        [
            self.number.to_string(),
            self.at.to_string(),
            name.to_owned(),
            or_dash(address),
            self.action.clone(),
            or_dash(object),
            result,
        ]
    }
}

/// A record as a line of its own, the columns at the widths that they usually have.
pub fn line(entry: &AuditEntry) -> String {
    let [number, at, who, from, action, object, result] = entry.columns();
    format!("{number:>8}  {at}  {who:<16}  {from:<15}  {action:<20}  {object:<36}  {result}")
}

impl Show for AuditVerdict {
    fn fields(&self) -> Fields {
        let is_intact = if self.intact { "yes" } else { "NO" };
        vec![
            ("intact", is_intact.to_owned()),
            ("records", format!("{} to {}", self.first, self.last)),
            ("end", format!("{}:{}", self.last, self.hash)),
            ("fault at", or_nothing(self.fault_at)),
            ("fault", or_nothing(self.fault.as_ref())),
        ]
    }
}
