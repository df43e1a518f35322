//! Figures beside their bars.

use std::fmt::Write;

/// A bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// The least that the figure may be.
    AtLeast(f64),
    /// The most that it may be.
    AtMost(f64),
}

/// One figure beside its bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Of what.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its bar.
    pub limit: Limit,
}

impl Judged {
    /// Whether the bar is met. What is no number is not.
    pub fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(min) => self.value >= min,
            Limit::AtMost(max) => self.value <= max,
        }
    }
}

/// The bars, as Markdown; nothing if there are none.
pub fn table(verdict: &[Judged]) -> String {
    if verdict.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| | figure | bar | |\n|---|---|---|---|\n");
    for judged in verdict {
        let met = if judged.is_met() { "met" } else { "MISSED" };
        let limit = match judged.limit {
            Limit::AtLeast(min) => format!("at least {min:.2}"),
            Limit::AtMost(max) => format!("at most {max:.2}"),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {} | {:.2} | {limit} | {met} |", judged.what, judged.value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bar_is_met_and_past_it_is_not() {
        let judged = |value, limit| Judged { what: "it".to_owned(), value, limit }.is_met();
        assert!(judged(2.0, Limit::AtLeast(2.0)) && judged(2.0, Limit::AtMost(2.0)));
        assert!(!judged(1.9, Limit::AtLeast(2.0)) && !judged(2.1, Limit::AtMost(2.0)));
        assert!(!judged(f64::NAN, Limit::AtLeast(2.0)) && !judged(f64::NAN, Limit::AtMost(2.0)));
    }
}
