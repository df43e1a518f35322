//! What is wrong with the body of a write: all of it, not only what is found first.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, Problem};
use crate::vm::InvalidField;

/// Wrong fields that are named; whoever has more of them knows enough.
pub const FINDINGS_MAX: usize = 100;

/// Bytes of a field's name in an answer: clients choose names of fields that there are not.
const FIELD_BYTES_MAX: usize = 128;

/// Bytes of a reason, which may repeat what was sent.
const REASON_BYTES_MAX: usize = 512;

/// A field that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct WrongField {
    /// The field, as the API names it: `disks[1].size`.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
    /// What kind of mistake it is.
    pub code: FieldCode,
}

/// Stable codes of what is wrong with a field.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FieldCode {
    /// There is no such field.
    Unknown,
    /// It is needed.
    Missing,
    /// It is of another type: a text where a number is needed.
    Type,
    /// It is too small or too large, or between what is possible.
    Range,
    /// It has too few or too many bytes or entries.
    Length,
    /// It is not written as such a thing is.
    Format,
    /// It does not go with another field.
    Conflict,
}

/// The body of a write: it says of itself what is wrong with it, without knowing anything of the fleet.
pub trait Validate {
    /// Finds everything that is wrong with it.
    fn validate(&self, findings: &mut Findings);
}

/// What was found, at most [`FINDINGS_MAX`], each field once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    wrong: Vec<WrongField>,
}

impl Findings {
    /// What is wrong with a body.
    pub fn of(body: &impl Validate) -> Self {
        let mut findings = Self::default();
        body.validate(&mut findings);
        findings
    }

    /// A field that cannot be. What is known to be wrong is not said twice.
    pub fn add(&mut self, field: &str, code: FieldCode, reason: impl Display) {
        let field = crate::limits::cut(field, FIELD_BYTES_MAX);
        if self.is_full() || self.has(field) {
            return;
        }
        let reason = reason.to_string();
        let reason = crate::limits::cut(&reason, REASON_BYTES_MAX).to_owned();
        self.wrong.push(WrongField { field: field.to_owned(), reason, code });
    }

    /// A field that has to be written in some way.
    pub fn parse<T, E: Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add(field, FieldCode::Format, error)).ok()
    }

    /// A number that has to be within bounds.
    pub fn range(&mut self, field: &str, value: u64, bounds: &std::ops::RangeInclusive<u64>) {
        if !bounds.contains(&value) {
            let text = format!("{value} is outside {} to {}", bounds.start(), bounds.end());
            self.add(field, FieldCode::Range, text);
        }
    }

    /// All that is wrong.
    pub fn wrong(&self) -> &[WrongField] {
        &self.wrong
    }

    /// Whether more would not be kept: who looks on wastes time, and a large body is made to waste it.
    pub fn is_full(&self) -> bool {
        self.wrong.len() >= FINDINGS_MAX
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Fails with the first.
    ///
    /// # Errors
    /// What was found first.
    pub fn first(self) -> Result<(), InvalidField> {
        match self.wrong.into_iter().next() {
            None => Ok(()),
            Some(WrongField { field, reason, .. }) => Err(InvalidField { field, problem: reason }),
        }
    }

    /// The refusal of the whole body, if anything is wrong: about the first field, with all of them.
    ///
    /// # Errors
    /// The problem.
    pub fn refuse(self) -> Result<(), Problem> {
        let Some(first) = self.wrong.first() else { return Ok(()) };
        let (field, detail) = (first.field.clone(), first.to_string());
        let problem = Problem::new(Code::InvalidRequest, detail).about(field);
        Err(Problem { invalid: self.wrong, ..problem })
    }

    /// Whether the field, or what it is a part of, is known to be wrong.
    fn has(&self, field: &str) -> bool {
        self.wrong.iter().any(|one| {
            let rest = field.strip_prefix(one.field.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_once_and_in_bounds() {
        let mut findings = Findings::default();
        findings.add("disks[0]", FieldCode::Type, "a");
        findings.add("disks[0].size", FieldCode::Range, "b");
        findings.add("disks[01]", FieldCode::Range, "c");
        assert_eq!(findings.wrong().len(), 2);
        for number in 0..2 * FINDINGS_MAX {
            findings.add(
                &format!("{number}{}", "x".repeat(999)),
                FieldCode::Unknown,
                "y".repeat(999),
            );
        }
        assert_eq!(findings.wrong().len(), FINDINGS_MAX);
        let longest = findings.wrong().iter().map(|one| one.field.len() + one.reason.len()).max();
        assert_eq!(longest, Some(FIELD_BYTES_MAX + REASON_BYTES_MAX));
        let problem = findings.refuse().unwrap_err();
        assert_eq!(
            (problem.field.as_deref(), problem.detail.as_str()),
            (Some("disks[0]"), "disks[0]: a")
        );
        assert_eq!(problem.invalid.len(), FINDINGS_MAX);
    }
}
