//! Bodies of requests: bounded, and refused with the field that is wrong.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use novacron_protocol::api::{Code, FieldCode, Findings, Problem, Validate};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use serde_path_to_error::Segment;

use super::shape;
use crate::admission::{KeptBytes, TooMuch};

/// Bytes of a body. The largest that means something is a machine with 64 KiB of labels and selectors.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Times that a body is read again to find what is wrong with it: each costs as much as the body is long.
const REREADINGS_MAX: usize = 8;

/// The body of a request as a handler takes it.
pub trait RequestBody: Sized + Send + 'static {
    /// Bytes of it: what is longer is not even read.
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    /// Media type and schema, for the API's description; none if there is no body.
    fn describe(generator: &mut SchemaGenerator) -> Option<BodyShape>;

    /// The body in these bytes.
    ///
    /// # Errors
    /// A problem that names the field.
    fn read(bytes: &Bytes, headers: &HeaderMap) -> Result<Self, Problem>;
}

/// A body as the API's description shows it.
#[derive(Debug)]
pub struct BodyShape {
    pub(super) media_type: &'static str,
    pub(super) schema: Schema,
    pub(super) is_required: bool,
}

/// No body.
#[derive(Debug)]
pub struct NoBody;

/// A JSON value.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A JSON value that may be left out.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

/// Plain bytes.
#[derive(Debug)]
pub struct Octets(pub Bytes);

impl RequestBody for NoBody {
    /// An empty object, and white space.
    const BYTES_MAX: usize = 64;

    fn describe(_: &mut SchemaGenerator) -> Option<BodyShape> {
        None
    }

    fn read(bytes: &Bytes, _: &HeaderMap) -> Result<Self, Problem> {
        match bytes.trim_ascii() {
            b"" | b"{}" => Ok(Self),
            _ => Err(Problem::new(Code::InvalidRequest, "this request takes no body")),
        }
    }
}

impl<T: DeserializeOwned + JsonSchema + Validate + Send + 'static> RequestBody for Json<T> {
    fn describe(generator: &mut SchemaGenerator) -> Option<BodyShape> {
        let schema = generator.subschema_for::<T>();
        Some(BodyShape { media_type: "application/json", schema, is_required: true })
    }

    fn read(bytes: &Bytes, headers: &HeaderMap) -> Result<Self, Problem> {
        check_media_type(headers)?;
        let value = from_json::<T>(bytes).map_err(|problem| all_wrong::<T>(bytes, problem))?;
        Findings::of(&value).refuse()?;
        Ok(Self(value))
    }
}

impl<T> RequestBody for OptionalJson<T>
where
    T: DeserializeOwned + JsonSchema + Validate + Default + Send + 'static,
{
    fn describe(generator: &mut SchemaGenerator) -> Option<BodyShape> {
        let schema = generator.subschema_for::<T>();
        Some(BodyShape { media_type: "application/json", schema, is_required: false })
    }

    fn read(bytes: &Bytes, headers: &HeaderMap) -> Result<Self, Problem> {
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        Json::read(bytes, headers).map(|Json(value)| Self(value))
    }
}

impl RequestBody for Octets {
    fn describe(_: &mut SchemaGenerator) -> Option<BodyShape> {
        let schema = binary_schema();
        Some(BodyShape { media_type: "application/octet-stream", schema, is_required: true })
    }

    fn read(bytes: &Bytes, _: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self(bytes.clone()))
    }
}

/// The schema of plain bytes.
pub(super) fn binary_schema() -> Schema {
    let instance_type = Some(InstanceType::String.into());
    SchemaObject { instance_type, format: Some("binary".to_owned()), ..Default::default() }.into()
}

/// Reads a whole body, but not more than `bytes_max`, not for longer than `within`, and only as far as whoever sends it may
/// have bytes `kept`.
pub(super) async fn collect(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    within: Duration,
    kept: Option<&mut KeptBytes>,
) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    let read = tokio::time::timeout(within, read_bounded(body, bytes_max, kept)).await;
    read.unwrap_or_else(|_| {
        let text = format!("the body did not arrive within {} s", within.as_secs_f64());
        Err(Problem::new(Code::RequestTimeout, text))
    })
}

async fn read_bounded(
    body: Body,
    bytes_max: usize,
    mut kept: Option<&mut KeptBytes>,
) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::InvalidRequest, "the body broke off"))?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if !kept.as_mut().is_none_or(|kept| kept.grow(chunk.len() as u64)) {
            return Err(TooMuch::Bodies.into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn too_large(bytes_max: usize) -> Problem {
    let text = match bytes_max {
        BODY_BYTES_MAX => format!("a body may have at most {bytes_max} bytes"),
        _ => "this request takes no body".to_owned(),
    };
    Problem::new(Code::TooLarge, text)
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidRequest, "the body must be application/json")
        .about("Content-Type"))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(explain)?;
    let not_json =
        |error| Problem::new(Code::InvalidRequest, format!("the body is not JSON: {error}"));
    deserializer.end().map_err(not_json)?;
    Ok(value)
}

/// Everything that is wrong with a body that cannot be read: `first` is what stopped the reader.
fn all_wrong<T: DeserializeOwned + JsonSchema + Validate>(bytes: &[u8], first: Problem) -> Problem {
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return first };
    let mut findings = Findings::default();
    shape::examine::<T>(&mut value, &mut findings);
    if let Some(mended) = read_rest::<T>(value, &mut findings) {
        mended.validate(&mut findings);
    }
    // A field that is given twice is seen by the reader only.
    findings.refuse().err().unwrap_or(first)
}

/// Reads a value of the right shape. What only the types know, such as what keys of a map can be, is found one after the
/// other, and taken out so that the next one is seen.
fn read_rest<T: DeserializeOwned>(mut value: Value, findings: &mut Findings) -> Option<T> {
    for _ in 0..REREADINGS_MAX {
        if findings.is_full() {
            return None;
        }
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let fields = error.path().iter().map_while(|part| match part {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        let fields: Vec<String> = fields.collect();
        // One without which nothing can be read was taken out before.
        if !shape::take_out(&mut value, &fields) {
            return None;
        }
        findings.add(&fields.join("."), FieldCode::Format, error.inner().to_string());
    }
    None
}

/// A value read from JSON that is already parsed.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(explain)
}

/// What serde says, with the field as the API names it.
fn explain(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let text = error.inner().to_string();
    if error.inner().classify() != Category::Data {
        return Problem::new(Code::InvalidRequest, format!("the body is not JSON: {text}"));
    }
    // `.` is the whole value, `?` a place that the parser did not come to.
    let path = error.path().to_string();
    let path = path.trim_end_matches(['?', '.']);
    let field = match quoted_field(&text) {
        Some(field) if path.is_empty() => field.to_owned(),
        Some(field) if !path.ends_with(field) => format!("{path}.{field}"),
        _ => path.to_owned(),
    };
    if field.is_empty() {
        return Problem::new(Code::InvalidRequest, text);
    }
    Problem::new(Code::InvalidRequest, format!("{field}: {text}")).about(field)
}

/// The field in serde's "missing field `x`" and "unknown field `x`".
fn quoted_field(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("missing field `").or(text.strip_prefix("unknown field `"))?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::api::VmCreate;

    fn field_of(json: &str) -> Option<String> {
        let read =
            Json::<VmCreate>::read(&Bytes::copy_from_slice(json.as_bytes()), &HeaderMap::new());
        read.unwrap_err().field
    }

    #[test]
    fn all_that_is_wrong_is_named_whatever_kind_it_is_of() {
        let body = r#"{"name":"Not Good","memmory":1,"cpus":"2","memory":1,"disks":[{"size":"1G","image":"../x"}]}"#;
        let read = Json::<VmCreate>::read(&Bytes::from_static(body.as_bytes()), &HeaderMap::new());
        let problem = read.unwrap_err();
        let wrong = problem.invalid.iter().map(|one| format!("{} {:?}", one.field, one.code));
        let expected = [
            "memmory Unknown",
            "cpus Type",
            "disks[0].size Type",
            "name Format",
            "memory Range",
            "disks[0].image Format",
        ];
        assert_eq!(wrong.collect::<Vec<_>>(), expected);
        assert_eq!(problem.field.as_deref(), Some("memmory"));
        let twice = Bytes::from_static(br#"{"name":"a","name":"b"}"#);
        assert!(Json::<VmCreate>::read(&twice, &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_wrong_field_is_named() {
        let named = |field: &str| Some(field.to_owned());
        assert_eq!(field_of(r#"{"name":"a","memmory":1}"#), named("memmory"));
        assert_eq!(field_of(r#"{"memory":1}"#), named("name"));
        assert_eq!(field_of(r#"{"name":"a","memory":"512M"}"#), named("memory"));
        assert_eq!(field_of(r#"{"name":"a","disks":[{"size":-1}]}"#), named("disks[0].size"));
        assert_eq!(field_of(r#"{"name":"a","disks":[{"sise":1}]}"#), named("disks[0].sise"));
        assert_eq!(field_of(r#"{"name":"a""#), None);
        assert_eq!(field_of(r#"{"name":"a"} x"#), None);
    }

    #[test]
    fn what_is_no_json_is_said_so() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        let body = Bytes::from_static(br#"{"name":"a"}"#);
        let problem = Json::<VmCreate>::read(&body, &headers).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("Content-Type"));
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert!(Json::<VmCreate>::read(&body, &headers).is_ok());
    }

    #[test]
    fn a_body_where_none_belongs_is_refused() {
        let headers = HeaderMap::new();
        assert!(NoBody::read(&Bytes::from_static(b" {} "), &headers).is_ok());
        assert!(NoBody::read(&Bytes::from_static(b"{\"force\":true}"), &headers).is_err());
    }

    #[tokio::test]
    async fn a_body_is_bounded_whether_it_says_its_length_or_not() {
        let body = || Body::from(vec![0; BODY_BYTES_MAX + 1]);
        let mut headers = HeaderMap::new();
        let collect = async |headers: &HeaderMap, body| {
            collect(headers, body, BODY_BYTES_MAX, Duration::from_secs(9), None)
                .await
                .unwrap_err()
                .status
        };
        assert_eq!(collect(&headers, body()).await, 413);
        headers.insert(header::CONTENT_LENGTH, "99999999".parse().unwrap());
        assert_eq!(collect(&headers, Body::empty()).await, 413);
    }
}
