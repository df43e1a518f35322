//! The record of a migration, as `novacron … -o json` prints it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const MIB: f64 = 1024.0 * 1024.0;

/// One migration that ended.
#[derive(Debug)]
pub struct Record(Value);

impl Record {
    /// Reads the JSON, which must be of a migration that completed.
    pub fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json).context("the record is not JSON")?;
        let record = Self(value);
        for field in FIELDS {
            ensure!(!record.0[*field].is_null(), "the record has no {field}");
        }
        let status = record.text("status");
        ensure!(status == "completed", "the migration is {status}, not completed");
        Ok(record)
    }

    /// Whether both ends compared memory and disks, and found them equal.
    pub fn is_verified(&self) -> bool {
        self.0["verified"] == true
    }

    /// Whether it went from one to the other.
    pub fn is_from_to(&self, source: &str, target: &str) -> bool {
        self.0["source"] == source && self.0["target"] == target
    }

    fn text(&self, field: &str) -> String {
        match &self.0[field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn mebibytes(&self, field: &str) -> String {
        format!("{:.1} MiB", self.0[field].as_f64().unwrap_or(0.0) / MIB)
    }

    fn milliseconds(&self, field: &str) -> String {
        format!("{:.0} ms", self.0[field].as_f64().unwrap_or(0.0))
    }

    /// What a person wants to know, by name.
    fn rows(&self) -> [(&'static str, String); 9] {
        let ratio = self.0["compression_ratio"].as_f64().unwrap_or(0.0);
        [
            ("from, to", format!("{}, {}", self.text("source"), self.text("target"))),
            ("total time", self.milliseconds("total_ms")),
            ("downtime", self.milliseconds("downtime_ms")),
            ("rounds", self.text("rounds")),
            ("guest memory sent", self.mebibytes("bytes_guest")),
            ("disk sent", self.mebibytes("bytes_disk")),
            ("on the wire", self.mebibytes("bytes_wire")),
            ("compression", format!("{ratio:.2} : 1")),
            ("verified equal", self.text("verified")),
        ]
    }
}

/// What every record says.
const FIELDS: &[&str] = &[
    "migration_id",
    "status",
    "phase",
    "total_ms",
    "downtime_ms",
    "rounds",
    "bytes_guest",
    "bytes_wire",
    "bytes_disk",
    "compression_ratio",
    "verified",
    "source",
    "target",
];

/// The records beside each other.
pub fn table(records: &[(&str, &Record)]) -> String {
    let columns: Vec<_> = records.iter().map(|(name, record)| (name, record.rows())).collect();
    let mut text = format!("{:<20}", "");
    for (name, _) in &columns {
        text.push_str(&format!("{name:>20}"));
    }
    for row in 0..columns.first().map_or(0, |(_, rows)| rows.len()) {
        text.push_str(&format!("\n{:<20}", columns[0].1[row].0));
        for (_, rows) in &columns {
            text.push_str(&format!("{:>20}", rows[row].1));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "migration_id": "m", "status": "completed", "phase": "cleanup", "total_ms": 2300,
            "downtime_ms": 81.4, "rounds": 4, "bytes_guest": 536_870_912, "bytes_wire": 104_857_600,
            "bytes_disk": 0, "compression_ratio": 5.12, "verified": true,
            "source": "node-01", "target": "node-02"
        })
    }

    #[test]
    fn a_record_is_shown() {
        let record = Record::parse(&sample().to_string()).unwrap();
        assert!(record.is_verified() && record.is_from_to("node-01", "node-02"));
        let table = table(&[("there", &record), ("back", &record)]);
        assert!(table.contains("2300 ms") && table.contains("512.0 MiB"), "{table}");
    }

    #[test]
    fn anything_less_is_refused() {
        let mut failed = sample();
        failed["status"] = json!("failed");
        assert!(Record::parse(&failed.to_string()).is_err());
        let mut partial = sample();
        partial["downtime_ms"] = Value::Null;
        assert!(Record::parse(&partial.to_string()).is_err());
        assert!(Record::parse("no JSON").is_err());
    }
}
