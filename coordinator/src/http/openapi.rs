//! The API's description (OpenAPI 3.0.3), made from the route table.

use std::collections::BTreeMap;

use novacron_protocol::api::{Code, PROBLEM_MEDIA_TYPE, Problem};
use schemars::r#gen::{SchemaGenerator, SchemaSettings};
use schemars::schema::Schema;
use serde_json::{Map, Value, json};

use super::answer::Header;
use super::body::BodyShape;
use super::parameters::Parameter;
use super::route::{HeaderParameter, Route};
use super::{routes, stale};
use crate::auth::{Access, Where};

/// The version of the OpenAPI specification that the description follows.
const OPENAPI_VERSION: &str = "3.0.3";

/// Statuses of refusals that pass.
const RETRIED: [u16; 2] = [429, 503];

const ABOUT: &str = "Virtual machines, hypervisor hosts, migrations and events of one NovaCron fleet.\n\n\
    Every request but those to /healthz, /readyz and this description needs the TLS client certificate of an \
    operator, or an API key as bearer token. What each needs is its `x-permission`: a word, and where it has to \
    hold. Errors are problem documents (RFC 9457) with a stable `code`. A write may carry an \
    `Idempotency-Key` (a UUID): repeated with the same key it is done once and gets the first answer, for 30 \
    seconds at least, and for a day while it is among the last 65,536. Sizes are bytes, moments are RFC 3339, in UTC.";

/// The description of the whole API.
pub fn openapi_document() -> Value {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let problem = json!({ "schema": generator.subschema_for::<Problem>() });
    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for route in routes::table() {
        let operation = operation(&route, &mut generator, &problem);
        let methods = paths.entry(route.path).or_default();
        methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
    }
    json!({
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "NovaCron",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(),
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "nck_<id>_<secret>",
                    "description": "An API key. Instead of it, a connection may show an operator's client \
                        certificate, which OpenAPI 3.0 has no word for.",
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let shape = (route.describe)(generator);
    let mut operation = Map::new();
    operation.insert("operationId".into(), route.operation.into());
    operation.insert("summary".into(), route.summary.into());
    if !route.about.is_empty() {
        operation.insert("description".into(), route.about.into());
    }
    operation.insert("tags".into(), json!([tag(route.path)]));
    operation.insert("security".into(), security(route.access));
    if let Access::Needs(permission, place) = route.access {
        let needed = json!({ "permission": permission.word(), "place": place_word(place) });
        operation.insert("x-permission".into(), needed);
    }
    let mut inputs: Vec<Value> = shape.path.iter().map(|one| parameter(one, "path")).collect();
    inputs.extend(shape.query.iter().map(|one| parameter(one, "query")));
    if route.may_be_stale {
        inputs.extend(stale::described());
    }
    inputs.extend(route.headers.iter().map(header_parameter));
    if !route.method.is_safe() {
        inputs.push(idempotency_key());
    }
    operation.insert("parameters".into(), inputs.into());
    if let Some(body) = &shape.body {
        operation.insert("requestBody".into(), request_body(body));
    }
    let mut responses = Map::new();
    let mut headers = shape.headers.clone();
    headers.extend(route.may_be_stale.then_some(stale::HEADER));
    let success = success(shape.meaning, &headers, &shape.content);
    responses.insert(shape.status.as_str().into(), success);
    for (status, meaning) in refusals(route) {
        let mut refusal = refusal(&meaning, problem);
        if RETRIED.contains(&status) {
            refusal["headers"]["Retry-After"] = retry_after();
        }
        responses.insert(status.to_string(), refusal);
    }
    responses.insert("default".into(), refusal("Any other problem.", problem));
    operation.insert("responses".into(), responses.into());
    Value::Object(operation)
}

/// `{}` stands for a connection with a certificate.
fn security(access: Access) -> Value {
    match access {
        Access::Anybody => json!([]),
        Access::Principals | Access::Needs(..) => json!([{ "apiKey": [] }, {}]),
    }
}

/// Where a permission has to hold, in a word.
fn place_word(place: Where) -> &'static str {
    match place {
        Where::Fleet => "fleet",
        Where::Machine | Where::Migration | Where::Batch | Where::Project | Where::Alert => {
            "project"
        }
        Where::Somewhere => "any",
    }
}

/// The resource: the first segment after the version.
fn tag(path: &str) -> &str {
    let path = path.strip_prefix(routes::PREFIX).unwrap_or(path).trim_start_matches('/');
    path.split('/').next().unwrap_or(path)
}

fn parameter(parameter: &Parameter, place: &str) -> Value {
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.is_required,
        "description": parameter.description,
        "schema": parameter.schema,
    })
}

fn header_parameter(parameter: &HeaderParameter) -> Value {
    json!({
        "name": parameter.name,
        "in": "header",
        "required": false,
        "description": parameter.meaning,
        "schema": { "type": "string" },
    })
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "Names the request. Repeated with the same key, it is done once.",
        "schema": { "type": "string", "format": "uuid" },
    })
}

fn request_body(body: &BodyShape) -> Value {
    json!({
        "required": body.is_required,
        "content": { body.media_type: { "schema": body.schema } },
    })
}

fn success(meaning: &str, headers: &[Header], content: &[(&'static str, Schema)]) -> Value {
    let mut response = with_request_id(meaning);
    for Header { name, meaning } in headers {
        let schema = json!({ "type": "string" });
        response["headers"][*name] = json!({ "description": meaning, "schema": schema });
    }
    if !content.is_empty() {
        let content: Map<String, Value> = content
            .iter()
            .map(|(media_type, schema)| ((*media_type).to_owned(), json!({ "schema": schema })))
            .collect();
        response["content"] = content.into();
    }
    response
}

fn refusal(meaning: &str, problem: &Value) -> Value {
    let mut response = with_request_id(meaning);
    response["content"] = json!({ PROBLEM_MEDIA_TYPE: problem });
    response
}

fn retry_after() -> Value {
    json!({
        "description": "After how many seconds it is worth asking again, where that is known.",
        "schema": { "type": "integer" },
    })
}

fn with_request_id(meaning: &str) -> Value {
    json!({
        "description": meaning,
        "headers": {
            "X-Request-Id": {
                "description": "The request, for the logs.",
                "schema": { "type": "string", "format": "uuid" },
            },
        },
    })
}

/// Statuses of a route's refusals with their codes in words.
fn refusals(route: &Route) -> BTreeMap<u16, String> {
    let mut codes = vec![Code::InvalidRequest, Code::RateLimited, Code::HeadTooLarge];
    if route.access != Access::Anybody {
        codes.extend([Code::NotAuthenticated, Code::NotAllowed, Code::Unavailable]);
        codes.push(Code::TooManyAtOnce);
    }
    if !route.method.is_safe() {
        codes.extend([Code::TooLarge, Code::OutcomeUnknown, Code::RequestTimeout]);
    }
    codes.extend(route.refusals);
    codes.extend(route.may_be_stale.then_some(Code::TooStale));
    codes.extend(route.part.map(|_| Code::Disabled));
    let mut meanings = BTreeMap::<u16, Vec<&str>>::new();
    for code in codes {
        meanings.entry(code.status()).or_default().push(code.title());
    }
    meanings
        .into_iter()
        .map(|(status, titles)| (status, format!("{}.", titles.join(", or "))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap();
                methods
                    .iter()
                    .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
            })
            .collect()
    }

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = openapi_document();
        assert_eq!(document["openapi"], "3.0.3");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.contains("#/components/schemas/Problem"), "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_has_its_own_name_and_its_paths_parameters() {
        let document = openapi_document();
        let operations = operations(&document);
        let names: BTreeSet<_> = operations
            .iter()
            .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), operations.len());
        for (path, method, operation) in operations {
            let in_path =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let parameters = operation["parameters"].as_array().unwrap();
            let declared = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let declared: BTreeSet<_> =
                declared.filter_map(|parameter| parameter["name"].as_str()).collect();
            assert_eq!(in_path.collect::<BTreeSet<_>>(), declared, "{method} {path}");
            for parameter in parameters {
                assert_ne!(parameter["description"], "", "{method} {path}: {parameter}");
            }
        }
    }

    #[test]
    fn usage_and_invoices_are_said_to_be_our_own() {
        let document = openapi_document();
        let of_money = operations(&document);
        let of_money = of_money.iter().filter(|(path, _, _)| {
            path.starts_with("/api/v1/usage") || path.starts_with("/api/v1/invoices")
        });
        let words: Vec<_> = of_money.map(|(_, _, operation)| &operation["description"]).collect();
        assert_eq!(words.len(), 5);
        let is_said = |words: &&Value| {
            words.as_str().is_some_and(|text| text.contains("not part of any partner's interface"))
        };
        assert!(words.iter().all(is_said), "{words:?}");
    }

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let document = openapi_document();
        let described: BTreeSet<_> = operations(&document)
            .into_iter()
            .map(|(path, method, _)| (path.to_owned(), method.to_ascii_uppercase()))
            .collect();
        let table = routes::table();
        let routes: BTreeSet<_> = table
            .iter()
            .map(|route| (route.path.to_owned(), route.method.as_str().to_owned()))
            .collect();
        assert_eq!(described, routes);
        assert_eq!(routes.len(), table.len(), "a method and path occur twice");
    }
}
