//! Path and query parameters, read as their schema says.
//!
//! A handler's parameters are a struct; its JSON schema is both what the API's description shows and what decides
//! how a text is read, so the two cannot differ.

use std::collections::BTreeMap;

use novacron_protocol::api::{Code, Problem};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Metadata, Schema, SchemaObject, SingleOrVec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::body::from_value;

/// A struct of parameters.
pub trait Parameters: DeserializeOwned + JsonSchema + Send + 'static {}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Parameters for T {}

/// No parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// One parameter as the API's description shows it.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) is_required: bool,
    pub(super) schema: Schema,
}

/// The parameters of a struct.
pub(super) fn parameters<P: Parameters>(generator: &mut SchemaGenerator) -> Vec<Parameter> {
    let Schema::Object(mut schema) = P::json_schema(generator) else { return Vec::new() };
    let object = std::mem::take(schema.object());
    let required = object.required;
    let parameter = |(name, schema): (String, Schema)| {
        let is_required = required.contains(&name);
        let (schema, description) = split_description(schema);
        Parameter { name, description, is_required, schema }
    };
    object.properties.into_iter().map(parameter).collect()
}

/// A description belongs to the parameter; an absent parameter is absent, never null.
fn split_description(schema: Schema) -> (Schema, String) {
    let mut schema = schema.into_object();
    schema.extensions.remove("nullable");
    let description = match schema.metadata.as_deref_mut() {
        Some(Metadata { description, default, .. }) => {
            default.take_if(|default| default.is_null());
            description.take().unwrap_or_default()
        }
        None => String::new(),
    };
    (Schema::Object(schema), description)
}

/// How the text of a parameter becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Boolean,
    /// May be given more than once.
    Texts,
}

/// Reads the parameters of one struct.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    kinds: BTreeMap<String, Kind>,
}

impl Reader {
    pub(super) fn of<P: Parameters>() -> Self {
        let mut generator = schemars::r#gen::SchemaSettings::openapi3().into_generator();
        let kind =
            |parameter: Parameter| (parameter.name, kind_of(&parameter.schema.into_object()));
        Self { kinds: parameters::<P>(&mut generator).into_iter().map(kind).collect() }
    }

    /// The struct in a list of names and texts.
    pub(super) fn read<P: Parameters>(
        &self,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<P, Problem> {
        let mut values = Map::new();
        for (name, text) in pairs {
            let Some(kind) = self.kinds.get(&name) else { return Err(self.unknown(&name)) };
            let value = parse(*kind, &name, text)?;
            match (values.get_mut(&name), value) {
                (None, value) => drop(values.insert(name, value)),
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                (Some(_), _) => return Err(invalid(&name, "given more than once")),
            }
        }
        from_value(Value::Object(values))
    }

    fn unknown(&self, name: &str) -> Problem {
        let known: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
        let hint = match known.is_empty() {
            true => "there are none here".to_owned(),
            false => format!("known here: {}", known.join(", ")),
        };
        invalid(name, &format!("there is no such parameter; {hint}"))
    }
}

fn kind_of(schema: &SchemaObject) -> Kind {
    match &schema.instance_type {
        Some(SingleOrVec::Single(kind)) => match **kind {
            InstanceType::Integer | InstanceType::Number => Kind::Number,
            InstanceType::Boolean => Kind::Boolean,
            InstanceType::Array => Kind::Texts,
            _ => Kind::Text,
        },
        _ => Kind::Text,
    }
}

fn parse(kind: Kind, name: &str, text: String) -> Result<Value, Problem> {
    match kind {
        Kind::Text => Ok(Value::String(text)),
        Kind::Texts => Ok(Value::Array(vec![Value::String(text)])),
        Kind::Boolean => match text.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(invalid(name, &format!("`{}` is neither true nor false", short(&text)))),
        },
        Kind::Number => text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| invalid(name, &format!("`{}` is not a whole number", short(&text)))),
    }
}

fn invalid(name: &str, problem: &str) -> Problem {
    let name = short(name);
    Problem::new(Code::InvalidRequest, format!("{name}: {problem}")).about(name)
}

/// A text of a client, cut to what an answer may repeat.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::vm::VmState;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        /// How many.
        limit: Option<u32>,
        /// Labels.
        #[serde(default)]
        label: Vec<String>,
        state: Option<VmState>,
        #[serde(default)]
        follow: bool,
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Sample, Problem> {
        let owned = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Reader::of::<Sample>().read(owned)
    }

    #[test]
    fn texts_are_read_as_the_schema_says() {
        let pairs = [
            ("limit", "5"),
            ("label", "a=1"),
            ("label", "b=2"),
            ("state", "running"),
            ("follow", "true"),
        ];
        let sample = read(&pairs).unwrap();
        assert_eq!((sample.limit, sample.follow), (Some(5), true));
        assert_eq!(sample.label, ["a=1", "b=2"]);
        assert_eq!(sample.state, Some(VmState::Running));
        assert_eq!(read(&[]).unwrap().limit, None);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (name, text) in [
            ("limit", "many"),
            ("limit", "-1"),
            ("limit", "99999999999"),
            ("state", "asleep"),
            ("follow", "yes"),
            ("lmit", "1"),
        ] {
            let problem = read(&[(name, text)]).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(name), "{problem:?}");
        }
        assert_eq!(
            read(&[("limit", "1"), ("limit", "2")]).unwrap_err().field.as_deref(),
            Some("limit")
        );
    }

    #[test]
    fn descriptions_come_from_the_fields() {
        let mut generator = schemars::r#gen::SchemaSettings::openapi3().into_generator();
        let parameters = parameters::<Sample>(&mut generator);
        let limit = parameters.iter().find(|parameter| parameter.name == "limit").unwrap();
        assert_eq!((limit.description.as_str(), limit.is_required), ("How many.", false));
    }
}
