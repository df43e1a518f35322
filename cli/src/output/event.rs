//! Events.

use novacron_protocol::api::Event;

use super::Row;
use super::text::{or_dash, word};

impl Row for Event {
    const HEADER: &'static [&'static str] = &["REVISION", "AT", "KIND", "NODE", "MESSAGE"];

    fn row(&self) -> Vec<String> {
        vec![
            self.revision.to_string(),
            self.at.to_string(),
            word(&self.kind),
            or_dash(self.node.as_ref()),
            self.message.clone(),
        ]
    }
}

/// An event as a line of its own, the columns at the widths that they usually have.
pub fn line(event: &Event) -> String {
    format!("{:>8}  {}  {:<20}  {}", event.revision.0, event.at, word(&event.kind), event.message)
}
