//! What differs between a thing as it was and as it is: small enough to stand in an event.

use serde::Serialize;
use serde_json::{Map, Value};

/// Bytes of both texts of a [`Change`] together. With so many in each of the events that are kept they would have 50 MB;
/// most have less than a tenth of it.
pub const CHANGE_BYTES_MAX: usize = 512;

/// No thing, as one side of a [`Change`].
pub(super) const NOTHING: Option<&()> = None;

/// What says when and where something was changed, which the event says too.
const BOOKKEEPING: [&str; 3] = ["created_at", "updated_at", "revision"];

/// What differs, as JSON objects; an empty text for what was not, or is not, there. Only fields that differ; where they
/// are too long together, the longest are left out whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: String,
    pub(super) after: String,
}

impl Change {
    /// What differs between two descriptions, of which either may be missing. What is no JSON object is taken for one
    /// without fields.
    pub(super) fn between<B, A>(before: Option<&B>, after: Option<&A>) -> Self
    where
        B: Serialize + ?Sized,
        A: Serialize + ?Sized,
    {
        Self::of(before.map(fields), after.map(fields))
    }

    /// One field that became another.
    pub(super) fn field(name: &str, before: impl Serialize, after: impl Serialize) -> Self {
        let one = |value| Map::from_iter([(name.to_owned(), value)]);
        Self::of(Some(one(json(before))), Some(one(json(after))))
    }

    /// Something that is there from now on, and one field of it.
    pub(super) fn made(name: &str, value: impl Serialize) -> Self {
        Self::of(None, Some(Map::from_iter([(name.to_owned(), json(value))])))
    }

    fn of(mut before: Option<Map<String, Value>>, mut after: Option<Map<String, Value>>) -> Self {
        for fields in [&mut before, &mut after].into_iter().flatten() {
            BOOKKEEPING.iter().for_each(|name| drop(fields.remove(*name)));
        }
        if let (Some(before), Some(after)) = (&mut before, &mut after) {
            leave_differences(before, after);
            if before.is_empty() && after.is_empty() {
                return Self::default();
            }
        }
        leave_out_the_longest(&mut before, &mut after);
        let text = |fields: Option<Map<String, Value>>| match fields {
            Some(fields) => Value::Object(fields).to_string(),
            None => String::new(),
        };
        Self { before: text(before), after: text(after) }
    }
}

fn json(value: impl Serialize) -> Value {
    // Everything in the state has string keys and no floats: it can be written.
    serde_json::to_value(value).unwrap_or_default()
}

fn fields<T: Serialize + ?Sized>(value: &T) -> Map<String, Value> {
    match json(value) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Takes out of both what they have in common, also inside of objects.
fn leave_differences(before: &mut Map<String, Value>, after: &mut Map<String, Value>) {
    before.retain(|name, old| {
        let Some(new) = after.get_mut(name) else { return true };
        if old == new {
            after.remove(name);
            return false;
        }
        if let (Value::Object(old), Value::Object(new)) = (old, new) {
            leave_differences(old, new);
        }
        true
    });
}

fn leave_out_the_longest(
    before: &mut Option<Map<String, Value>>,
    after: &mut Option<Map<String, Value>>,
) {
    let length = |fields: &Option<Map<String, Value>>, name: &str| {
        let value = fields.as_ref().and_then(|fields| fields.get(name));
        value.map_or(0, |value| name.len() + "\"\":,".len() + value.to_string().len())
    };
    let names = [&*before, &*after].into_iter().flatten().flat_map(Map::keys).cloned();
    let mut lengths: Vec<(usize, String)> =
        names.map(|name| (length(before, &name) + length(after, &name), name)).collect();
    lengths.sort();
    lengths.dedup();
    let braces = 2 * "{}".len();
    let mut all = braces + lengths.iter().map(|(length, _)| length).sum::<usize>();
    while all > CHANGE_BYTES_MAX
        && let Some((length, name)) = lengths.pop()
    {
        all -= length;
        for fields in [&mut *before, &mut *after].into_iter().flatten() {
            fields.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn between(before: Value, after: Value) -> (String, String) {
        let there = |value: Value| (!value.is_null()).then_some(value);
        let change = Change::between(there(before).as_ref(), there(after).as_ref());
        (change.before, change.after)
    }

    fn texts(before: &str, after: &str) -> (String, String) {
        (before.to_owned(), after.to_owned())
    }

    #[test]
    fn only_what_differs_is_left() {
        let before = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "gone": [], "revision": 1 });
        let after = json!({ "a": 1, "b": { "c": 2, "d": 4 }, "new": null, "revision": 2 });
        let expected = texts(r#"{"b":{"d":3},"gone":[]}"#, r#"{"b":{"d":4},"new":null}"#);
        assert_eq!(between(before, after.clone()), expected);
        assert_eq!(between(after.clone(), after), texts("", ""));
    }

    #[test]
    fn what_comes_or_goes_is_whole() {
        let it = json!({ "a": 1, "created_at": 7 });
        assert_eq!(between(Value::Null, it.clone()), texts("", r#"{"a":1}"#));
        assert_eq!(between(it, Value::Null), texts(r#"{"a":1}"#, ""));
    }

    #[test]
    fn what_is_too_long_is_left_out_whole() {
        let text = |length| "x".repeat(length);
        let with = |value: Value| json!({ "long": value, "short": value.to_string().len() });
        for length in 0..2 * CHANGE_BYTES_MAX {
            let (before, after) = between(with(json!(text(length))), with(json!(text(length + 1))));
            assert!(before.len() + after.len() <= CHANGE_BYTES_MAX, "{length}: {before} {after}");
            let is_whole = before.contains(&text(length)) && length > 0;
            assert_eq!(before.contains("long"), is_whole || length == 0, "{length}");
            assert!(before.contains("short") && after.contains("short"), "{before} {after}");
        }
        let whole = between(Value::Null, json!({ "long": text(CHANGE_BYTES_MAX) }));
        assert_eq!(whole, texts("", "{}"), "it was made, and how is elsewhere");
    }
}
