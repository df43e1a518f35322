//! An error as a person reads it.

use std::error::Error;

use novacron_protocol::limits::cut_reason;

/// The error and its causes in one line, cut to what a report may hold.
pub fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    cut_reason(text)
}

#[cfg(test)]
mod tests {
    use novacron_protocol::limits::REASON_BYTES_MAX;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_and_length_is_bounded() {
        assert_eq!(reason(&Outer(std::io::Error::other("inner"))), "outer: inner");
        let long = "ä".repeat(REASON_BYTES_MAX);
        let cut = reason(&std::io::Error::other(long));
        assert!(cut.len() <= REASON_BYTES_MAX && cut.len() > REASON_BYTES_MAX - 4);
    }
}
