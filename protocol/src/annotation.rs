//! Annotations: texts that people and tools keep beside a machine. The fleet gives them no meaning; labels are for what
//! machines are found and placed by.

use std::collections::BTreeMap;

use crate::limits::{ANNOTATION_KEY_BYTES_MAX, ANNOTATION_VALUE_BYTES_MAX};
use crate::vm::InvalidField;

/// Annotations by key.
pub type Annotations = BTreeMap<String, String>;

/// Checks a key: letters, digits and `-_./`, so that it needs no quoting in paths and shells.
///
/// # Errors
/// What is wrong and what would be right.
pub fn check_key(key: &str) -> Result<(), InvalidField> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if (1..=ANNOTATION_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(is_plain) {
        return Ok(());
    }
    let problem = format!(
        "a key has 1 to {ANNOTATION_KEY_BYTES_MAX} letters, digits and -_./ and this one has {} bytes",
        key.len()
    );
    Err(InvalidField { field: "key".to_owned(), problem })
}

/// Checks a value.
///
/// # Errors
/// What is wrong and what would be right.
pub fn check_value(value: &str) -> Result<(), InvalidField> {
    if value.len() <= ANNOTATION_VALUE_BYTES_MAX {
        return Ok(());
    }
    let problem = format!("{} bytes; at most {ANNOTATION_VALUE_BYTES_MAX}", value.len());
    Err(InvalidField { field: "value".to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_bounded() {
        assert!(check_key("example.org/owner_1").is_ok());
        assert!(check_key(&"k".repeat(ANNOTATION_KEY_BYTES_MAX)).is_ok());
        let too_long = "k".repeat(ANNOTATION_KEY_BYTES_MAX + 1);
        for key in ["", "two words", "k=v", "ключ", &too_long] {
            assert_eq!(check_key(key).unwrap_err().field, "key", "{key}");
        }
        assert!(check_value(&"v".repeat(ANNOTATION_VALUE_BYTES_MAX)).is_ok());
        let wrong = check_value(&"v".repeat(ANNOTATION_VALUE_BYTES_MAX + 1)).unwrap_err();
        assert!(wrong.problem.contains("4097") && wrong.problem.contains("4096"), "{wrong:?}");
    }
}
