//! Events.

use novacron_protocol::api::Event;

use super::Row;
use super::text::{or_dash, word};

impl Row for Event {
    const HEADER: &'static [&'static str] = &["REVISION", "AT", "KIND", "WHO", "NODE", "MESSAGE"];

    fn row(&self) -> Vec<String> {
        vec![
            self.revision.to_string(),
            self.at.to_string(),
            word(&self.kind),
            self.actor.to_string(),
            or_dash(self.node.as_ref()),
            self.message.clone(),
        ]
    }
}

/// An event as a line of its own, the columns at the widths that they usually have.
pub fn line(event: &Event) -> String {
    let (revision, who, kind) = (event.revision.0, event.actor.to_string(), word(&event.kind));
    format!("{revision:>8}  {}  {kind:<20}  {who:<16}  {}", event.at, event.message)
}
