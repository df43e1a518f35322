//! Paths and queries: whatever a caller hands in becomes one segment or one value, never more.

use std::fmt::Write;

/// A path with its query, built piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    text: String,
    has_query: bool,
    may_be_stale: bool,
}

impl Path {
    /// The path of a collection, such as `vms`.
    pub(crate) fn new(collection: &str) -> Self {
        Self { text: format!("/api/v1/{collection}"), has_query: false, may_be_stale: false }
    }

    /// The path of a collection of the inventory, which any coordinator shows as it has it.
    pub(crate) fn inventory(collection: &str) -> Self {
        Self { may_be_stale: true, ..Self::new(collection) }
    }

    /// Whether a coordinator shows that as it has it, if it is asked to.
    pub(crate) fn may_be_stale(&self) -> bool {
        self.may_be_stale
    }

    /// One more segment that comes from the caller.
    pub(crate) fn segment(mut self, segment: impl ToString) -> Self {
        self.text.push('/');
        encode(&segment.to_string(), &mut self.text);
        self
    }

    /// One more segment of the API itself.
    pub(crate) fn verb(mut self, verb: &str) -> Self {
        self.text.push('/');
        self.text.push_str(verb);
        self.may_be_stale = false;
        self
    }

    /// One more query parameter.
    pub(crate) fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        encode(&value.to_string(), &mut self.text);
        self
    }

    /// One more query parameter, if it has a value.
    pub(crate) fn query_if<T: ToString>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// The whole.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_hands_in_stays_one_piece() {
        let path =
            Path::new("vms").segment("../a?b").verb("start").query("label", "k=v&x").query("n", 1);
        assert_eq!(path.as_str(), "/api/v1/vms/..%2Fa%3Fb/start?label=k%3Dv%26x&n=1");
    }
}
