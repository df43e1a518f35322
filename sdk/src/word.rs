//! Values of enumerations, for people.

use serde::Serialize;

/// How the API writes a value of an enumeration.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
