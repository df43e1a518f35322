//! Secrets: texts that are shown to whoever may see them, and to nothing else: neither logs nor traces.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::SECRET_VALUE_BYTES_MAX;
use crate::vm::InvalidField;

/// A text that does not show itself: [`SecretText::expose`] is the only way to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text into custody.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text. Whoever asks has a reason to.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Checks it as the value of a secret.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check_value(&self) -> Result<(), InvalidField> {
        if (1..=SECRET_VALUE_BYTES_MAX).contains(&self.0.len()) {
            return Ok(());
        }
        let problem = format!("{} bytes; a value has 1 to {SECRET_VALUE_BYTES_MAX}", self.0.len());
        Err(InvalidField { field: "value".to_owned(), problem })
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(a secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself_and_is_bounded() {
        let text = SecretText::new("hunter2".to_owned());
        assert_eq!(format!("{text:?} {:?}", Some(&text)), "(a secret) Some((a secret))");
        assert_eq!(serde_json::to_string(&text).unwrap(), "\"hunter2\"");
        assert!(text.check_value().is_ok());
        for length in [0, SECRET_VALUE_BYTES_MAX + 1] {
            let wrong = SecretText::new("x".repeat(length)).check_value().unwrap_err();
            assert!(wrong.field == "value" && wrong.problem.contains("65536"), "{wrong:?}");
        }
    }
}
