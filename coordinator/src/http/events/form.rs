//! How a stream of events is written: lines of JSON, or Server-Sent Events (WHATWG HTML, section 9.2).

use http::{HeaderMap, header};
use novacron_protocol::api::Problem;
use serde::Serialize;

use super::position::Position;
use crate::state::event::EventRow;

pub(in crate::http) const LINES: &str = "application/x-ndjson";
pub(in crate::http) const SERVER_SENT: &str = "text/event-stream";

/// How long a browser waits before it opens a stream again that broke off, in milliseconds.
const RETRY_MS: u32 = 1_000;

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Form {
    /// An event a line. An empty line is a sign of life.
    Lines,
    /// The position of each event is its `id`, so that a browser goes on behind the last one that it got. A sign of life
    /// is an `id` without an event: it says how far there was nothing for this reader, which keeps a reader whose filter
    /// lets little through from falling behind what is kept.
    ServerSent,
}

impl Form {
    /// Server-Sent Events for those who accept them.
    pub(in crate::http) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let accepted =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges = accepted.flat_map(|value| value.split(','));
        let is_it = |range: &str| {
            let media_type = range.split(';').next().unwrap_or_default();
            media_type.trim().eq_ignore_ascii_case(SERVER_SENT)
        };
        ranges.any(is_it).then_some(Self::ServerSent)
    }

    pub(in crate::http) fn media_type(self) -> &'static str {
        match self {
            Self::Lines => LINES,
            Self::ServerSent => SERVER_SENT,
        }
    }

    /// What a stream begins with.
    pub(in crate::http) fn beginning(self) -> String {
        match self {
            Self::Lines => String::new(),
            Self::ServerSent => format!("retry: {RETRY_MS}\n\n"),
        }
    }

    pub(super) fn write(self, event: &EventRow, into: &mut Vec<u8>) {
        self.write_document(&Position::of(event).to_text(), &event.shown(), into);
    }

    /// One document of a stream; `id` says where a reader goes on behind it.
    pub(in crate::http) fn write_document(
        self,
        id: &str,
        document: &impl Serialize,
        into: &mut Vec<u8>,
    ) {
        match self {
            Self::Lines => {}
            Self::ServerSent => into.extend_from_slice(format!("id: {id}\ndata: ").as_bytes()),
        }
        // JSON has no line breaks, and a document of the API nothing that could not be written.
        into.extend(serde_json::to_vec(document).unwrap_or_default());
        into.extend_from_slice(self.end());
    }

    fn end(self) -> &'static [u8] {
        match self {
            Self::Lines => b"\n",
            Self::ServerSent => b"\n\n",
        }
    }

    /// A sign of life of a reader that has been shown everything up to a place.
    pub(in crate::http) fn sign_of_life(self, seen: Option<&str>) -> String {
        match (self, seen) {
            (Self::Lines, _) => "\n".to_owned(),
            (Self::ServerSent, None) => ":\n\n".to_owned(),
            (Self::ServerSent, Some(seen)) => format!(": nothing else\nid: {seen}\n\n"),
        }
    }

    /// Why a stream ends.
    pub(in crate::http) fn problem(self, problem: &Problem) -> Vec<u8> {
        let mut text = match self {
            Self::Lines => Vec::new(),
            Self::ServerSent => b"event: problem\ndata: ".to_vec(),
        };
        text.extend(serde_json::to_vec(problem).unwrap_or_default());
        text.extend_from_slice(self.end());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_server_sent_events_gets_them() {
        let wanted = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            Form::wanted(&headers)
        };
        assert_eq!(wanted("text/event-stream"), Some(Form::ServerSent));
        assert_eq!(wanted("text/html, Text/Event-Stream;q=0.9"), Some(Form::ServerSent));
        assert_eq!(wanted("*/*"), None);
        assert_eq!(Form::wanted(&HeaderMap::new()), None);
    }

    #[test]
    fn a_sign_of_life_says_how_far_there_was_nothing() {
        let seen = Some("9");
        assert_eq!(Form::ServerSent.sign_of_life(seen), ": nothing else\nid: 9\n\n");
        assert_eq!(Form::ServerSent.sign_of_life(None), ":\n\n");
        assert_eq!(Form::Lines.sign_of_life(seen), "\n");
    }
}
