//! Whether a JSON value has the shape that a schema describes: everything in it that has not, not only the first.
//!
//! Serde stops at the first field that is wrong. When it has refused a body, this looks at the whole of it, with the
//! very schema that the API's description shows, and puts something that could be in place of what cannot: so the rest
//! can be looked at further. **Never** does a body that serde refused become one that is accepted.

use novacron_protocol::api::{FieldCode, Findings};
use novacron_protocol::ids::{NAME_FORMAT, NodeName};
use novacron_protocol::region::{CERTIFICATION_FORMAT, Certification};
use novacron_protocol::time::Timestamp;
use schemars::JsonSchema;
use schemars::r#gen::SchemaSettings;
use schemars::schema::{
    ArrayValidation, InstanceType, ObjectValidation, Schema, SchemaObject, SingleOrVec,
};
use serde_json::{Map, Value};

/// Where the generator keeps schemas that have a name.
const DEFINITIONS: &str = "#/components/schemas/";

/// Items of one list that are looked at: as many as the longest list that means something has.
const ITEMS_EXAMINED_MAX: usize = 1_000;

/// Names that a reason lists: of fields, or of words that would be right.
const LISTED_MAX: usize = 40;

/// Finds all that has not the shape of `T`, and mends the value where it has not.
pub(super) fn examine<T: JsonSchema>(value: &mut Value, findings: &mut Findings) {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let schema = generator.subschema_for::<T>();
    let definitions = generator.take_definitions();
    Examiner { definitions: &definitions, findings }.value(&schema, value, "");
}

/// Takes a field out, or an entry of a map; of a list all of it, because the places of what is left would be others. Whether it
/// was there.
pub(super) fn take_out(mut value: &mut Value, path: &[String]) -> bool {
    let Some((last, to)) = path.split_last() else { return false };
    for part in to {
        let Some(next) = value.get_mut(part) else { return false };
        value = next;
    }
    value.as_object_mut().is_some_and(|fields| fields.remove(last).is_some())
}

struct Examiner<'a> {
    definitions: &'a schemars::Map<String, Schema>,
    findings: &'a mut Findings,
}

impl Examiner<'_> {
    fn value(&mut self, schema: &Schema, value: &mut Value, at: &str) {
        let Schema::Object(schema) = schema else { return };
        if self.findings.is_full() {
            return;
        }
        if let Some(named) = self.named(schema) {
            return self.value(&named, value, at);
        }
        if is_nullable(schema) && value.is_null() {
            return;
        }
        if let Some(one) = only_part(schema) {
            return self.value(&one, value, at);
        }
        if let Some(alternatives) = alternatives(schema) {
            return self.one_of(alternatives, value, at);
        }
        match self.problem(schema, value) {
            None => self.parts(schema, value, at),
            Some((code, reason)) => {
                self.findings.add(or_body(at), code, reason);
                *value = self.sample(&Schema::Object(schema.clone()));
            }
        }
    }

    fn named(&self, schema: &SchemaObject) -> Option<Schema> {
        let name = schema.reference.as_deref()?.strip_prefix(DEFINITIONS)?;
        self.definitions.get(name).cloned()
    }

    fn one_of(&mut self, alternatives: &[Schema], value: &mut Value, at: &str) {
        let fits = |schema: &Schema| {
            let (mut findings, mut value) = (Findings::default(), value.clone());
            let mut examiner = Examiner { definitions: self.definitions, findings: &mut findings };
            examiner.value(schema, &mut value, at);
            findings.is_empty()
        };
        if alternatives.iter().any(fits) {
            return;
        }
        let words: Vec<String> = alternatives.iter().flat_map(|one| self.words(one)).collect();
        self.findings.add(or_body(at), FieldCode::Type, format!("one of {}", list(&words)));
        *value = alternatives.first().map_or(Value::Null, |one| self.sample(one));
    }

    /// What could stand in the place of an alternative, in a word.
    fn words(&self, schema: &Schema) -> Vec<String> {
        let Schema::Object(schema) = schema else { return Vec::new() };
        if let Some(words) = &schema.enum_values {
            return words.iter().map(text_of).collect();
        }
        let fields = schema.object.iter().flat_map(|object| object.properties.keys());
        fields.map(|field| format!("{{\"{field}\": …}}")).collect()
    }

    /// What is wrong with the value itself, apart from its parts.
    fn problem(&self, schema: &SchemaObject, value: &Value) -> Option<(FieldCode, String)> {
        if let Some(words) = &schema.enum_values {
            let words: Vec<String> = words.iter().map(text_of).collect();
            let is_one = words.iter().any(|word| *word == text_of(value));
            return (!is_one).then(|| (FieldCode::Type, format!("one of {}", list(&words))));
        }
        let kind = kind_of(schema)?;
        if !is_of_kind(kind, value) {
            let reason = format!("{} is needed, not {}", kind_word(kind), value_word(value));
            return Some((FieldCode::Type, reason));
        }
        match value {
            Value::String(text) => format_problem(schema, text),
            Value::Number(number) => range_problem(schema, number),
            _ => None,
        }
    }

    fn parts(&mut self, schema: &SchemaObject, value: &mut Value, at: &str) {
        match (value, &schema.object, &schema.array) {
            (Value::Object(fields), Some(object), _) => self.fields(object, fields, at),
            (Value::Array(items), _, Some(array)) => self.items(array, items, at),
            _ => {}
        }
    }

    fn items(&mut self, array: &ArrayValidation, items: &mut [Value], at: &str) {
        let Some(SingleOrVec::Single(schema)) = &array.items else { return };
        // Each item costs a look at its schema; a list that is too long is refused by the type itself.
        for (index, item) in items.iter_mut().enumerate().take(ITEMS_EXAMINED_MAX) {
            if self.findings.is_full() {
                return;
            }
            self.value(schema, item, &format!("{at}[{index}]"));
        }
    }

    fn fields(&mut self, object: &ObjectValidation, fields: &mut Map<String, Value>, at: &str) {
        let place =
            |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        let unknown = |name: &String| !object.properties.contains_key(name);
        let others = object.additional_properties.as_deref();
        if others == Some(&Schema::Bool(false)) {
            let known: Vec<String> = object.properties.keys().cloned().collect();
            for name in fields.keys().filter(|name| unknown(name)) {
                // A body may have a hundred thousand, of which a hundred are named.
                if self.findings.is_full() {
                    break;
                }
                let reason = format!("there is no such field; there are {}", list(&known));
                self.findings.add(&place(name), FieldCode::Unknown, reason);
            }
            fields.retain(|name, _| !unknown(name));
        }
        for name in &object.required {
            if !fields.contains_key(name) {
                self.findings.add(&place(name), FieldCode::Missing, "it is needed");
                let sample = object.properties.get(name).map(|schema| self.sample(schema));
                fields.insert(name.clone(), sample.unwrap_or_default());
            }
        }
        for (name, field) in fields.iter_mut() {
            if let Some(schema) = object.properties.get(name).or(others) {
                self.value(schema, field, &place(name));
            }
        }
    }

    /// Some value of the shape.
    fn sample(&self, schema: &Schema) -> Value {
        let Schema::Object(schema) = schema else { return Value::Null };
        if let Some(named) = self.named(schema).or_else(|| only_part(schema)) {
            return self.sample(&named);
        }
        if is_nullable(schema) {
            return Value::Null;
        }
        if let Some(word) = schema.enum_values.as_ref().and_then(|words| words.first()) {
            return word.clone();
        }
        if let Some(first) = alternatives(schema).and_then(|all| all.first()) {
            return self.sample(first);
        }
        match kind_of(schema) {
            Some(InstanceType::String) => Value::from(sample_text(schema)),
            Some(InstanceType::Integer | InstanceType::Number) => Value::from(1),
            Some(InstanceType::Boolean) => Value::Bool(false),
            Some(InstanceType::Array) => Value::Array(Vec::new()),
            Some(InstanceType::Object) => self.sample_object(schema),
            _ => Value::Null,
        }
    }

    fn sample_object(&self, schema: &SchemaObject) -> Value {
        let Some(object) = &schema.object else { return Value::Object(Map::new()) };
        let needed = object.required.iter().filter_map(|name| {
            object.properties.get(name).map(|schema| (name.clone(), self.sample(schema)))
        });
        Value::Object(needed.collect())
    }
}

/// The body as a whole has no name.
fn or_body(at: &str) -> &str {
    if at.is_empty() { "body" } else { at }
}

fn is_nullable(schema: &SchemaObject) -> bool {
    schema.extensions.get("nullable") == Some(&Value::Bool(true))
}

/// The schema that one is only a description around.
fn only_part(schema: &SchemaObject) -> Option<Schema> {
    match schema.subschemas.as_ref()?.all_of.as_deref()? {
        [one] => Some(one.clone()),
        _ => None,
    }
}

fn alternatives(schema: &SchemaObject) -> Option<&[Schema]> {
    let subschemas = schema.subschemas.as_ref()?;
    subschemas.one_of.as_deref().or(subschemas.any_of.as_deref())
}

fn kind_of(schema: &SchemaObject) -> Option<InstanceType> {
    match schema.instance_type.as_ref()? {
        SingleOrVec::Single(kind) => Some(**kind),
        SingleOrVec::Vec(_) => None,
    }
}

fn is_of_kind(kind: InstanceType, value: &Value) -> bool {
    match kind {
        InstanceType::Null => value.is_null(),
        InstanceType::Boolean => value.is_boolean(),
        InstanceType::Object => value.is_object(),
        InstanceType::Array => value.is_array(),
        InstanceType::String => value.is_string(),
        InstanceType::Number => value.is_number(),
        InstanceType::Integer => value.is_i64() || value.is_u64(),
    }
}

fn kind_word(kind: InstanceType) -> &'static str {
    match kind {
        InstanceType::Null => "null",
        InstanceType::Boolean => "true or false",
        InstanceType::Object => "an object",
        InstanceType::Array => "a list",
        InstanceType::String => "a text",
        InstanceType::Number => "a number",
        InstanceType::Integer => "a whole number",
    }
}

fn value_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "such a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn format_problem(schema: &SchemaObject, text: &str) -> Option<(FieldCode, String)> {
    let reason = match schema.format.as_deref()? {
        NAME_FORMAT => text.parse::<NodeName>().err()?.to_string(),
        CERTIFICATION_FORMAT => text.parse::<Certification>().err()?.to_string(),
        "uuid" => text.parse::<uuid::Uuid>().err().map(|_| "not a UUID".to_owned())?,
        "date-time" => serde_json::from_value::<Timestamp>(text.into()).err().map(|_| {
            "not a moment as RFC 3339 writes it, such as 2026-11-26T13:00:00Z".to_owned()
        })?,
        _ => return None,
    };
    Some((FieldCode::Format, reason))
}

fn sample_text(schema: &SchemaObject) -> &'static str {
    match schema.format.as_deref() {
        Some("uuid") => "00000000-0000-0000-0000-000000000000",
        Some("date-time") => "1970-01-01T00:00:00Z",
        // What is a name, a whole number and a plain text.
        _ => "0",
    }
}

fn range_problem(
    schema: &SchemaObject,
    number: &serde_json::Number,
) -> Option<(FieldCode, String)> {
    let is_below = number.as_i64().is_some_and(|number| number < 0)
        && schema.number.as_ref().is_some_and(|bounds| bounds.minimum == Some(0.0));
    let is_above = schema.format.as_deref() == Some("uint32")
        && number.as_u64().is_some_and(|number| number > u64::from(u32::MAX));
    (is_below || is_above).then(|| (FieldCode::Range, format!("{number} is out of bounds")))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(words: &[String]) -> String {
    words.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::api::{BindingCreate, PlanChange, RateCardView, UsagePost, VmCreate};
    use serde::de::DeserializeOwned;
    use serde_json::json;

    fn found<T: JsonSchema + DeserializeOwned>(mut body: Value) -> Vec<(String, FieldCode)> {
        let mut findings = Findings::default();
        examine::<T>(&mut body, &mut findings);
        serde_json::from_value::<T>(body.clone()).unwrap_or_else(|error| panic!("{error}: {body}"));
        findings.wrong().iter().map(|one| (one.field.clone(), one.code)).collect()
    }

    fn as_text(found: &[(String, FieldCode)]) -> Vec<String> {
        found.iter().map(|(field, code)| format!("{field} {code:?}")).collect()
    }

    #[test]
    fn all_that_has_another_shape_is_found_and_the_rest_can_be_read() {
        let body = json!({
            "memmory": 1, "memory": "512M", "cpus": -1, "labels": { "a": 1, "b": "c" },
            "disks": [{ "size": -1, "sise": 1 }, 7, { "format": "vhd" }],
            "network": "wire", "enable_tpm": null, "start": null, "nam": "x",
        });
        let expected = [
            "memmory Unknown",
            "nam Unknown",
            "name Missing",
            "cpus Range",
            "disks[0].sise Unknown",
            "disks[0].size Range",
            "disks[1] Type",
            "disks[2].format Type",
            "enable_tpm Type",
            "labels.a Type",
            "memory Type",
            "network Type",
        ];
        assert_eq!(as_text(&found::<VmCreate>(body)), expected);
        assert_eq!(found::<VmCreate>(json!({ "name": "a", "network": "none" })), []);
        assert_eq!(as_text(&found::<VmCreate>(json!([1]))), ["body Type"]);
    }

    #[test]
    fn a_body_that_is_made_to_waste_time_wastes_little() {
        let mut body = json!({ "name": "a", "disks": vec![0; 200_000] });
        let mut findings = Findings::default();
        examine::<VmCreate>(&mut body, &mut findings);
        assert!(findings.is_full());
        assert_eq!(body["disks"][100_000], 0, "not even looked at");
    }

    #[test]
    fn names_moments_and_words_are_looked_at() {
        let plan = json!({ "project": "Not Good", "plan": 1, "valid_from": "today" });
        assert_eq!(
            as_text(&found::<PlanChange>(plan)),
            ["plan Type", "project Format", "valid_from Format"]
        );
        let card = json!({ "plan": "a", "valid_from": "2026-11-26T13:00:00Z", "prices": { "vm-hours": {} } });
        assert_eq!(
            as_text(&found::<RateCardView>(card)),
            ["prices.vm-hours.micro_dollars Missing"]
        );
        let binding = json!({ "principal": "a", "role": "god", "effect": "maybe" });
        assert_eq!(as_text(&found::<BindingCreate>(binding)), ["effect Type", "role Type"]);
        let usage = json!({ "node": "a", "records": [{ "vm": "x" }] });
        assert_eq!(found::<UsagePost>(usage).len(), 6, "five are missing, one is no UUID");
    }
}
