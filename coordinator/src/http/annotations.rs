//! Annotations of machines.

use novacron_protocol::access::Permission;
use novacron_protocol::annotation::{check_key, check_value};
use novacron_protocol::api::{AnnotationView, AnnotationWrite, Code, Problem};
use novacron_protocol::vm::InvalidField;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Done, Found};
use super::body::{Json, NoBody};
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, put};
use super::vms::{find, named};
use crate::auth::Where;
use crate::propose::Intent;

const PATH: &str = "/api/v1/vms/{vm}/annotations/{key}";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get(PATH, "getAnnotation", "Show what is kept beside a machine under a key")
            .needs(Permission::VmRead, Where::Machine)
            .refuses(&[Code::NotFound])
            .to(show),
        put(PATH, "putAnnotation", "Keep a text beside a machine, in place of an earlier one")
            .needs(Permission::VmOperate, Where::Machine)
            .refuses(&[Code::NotFound, Code::Conflict, Code::NoCapacity, Code::IdempotencyConflict])
            .to(write),
        delete(PATH, "deleteAnnotation", "Remove what is kept beside a machine under a key")
            .needs(Permission::VmOperate, Where::Machine)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(remove),
    ]
}

/// Which annotation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnnotationPath {
    /// Name or id of the machine.
    vm: String,
    /// The key: 1 to 128 letters, digits and `-_./`, the last one as `%2F`.
    key: String,
}

async fn show(
    call: Call<AnnotationPath, Nothing, NoBody>,
) -> Result<Found<AnnotationView>, Problem> {
    let AnnotationPath { vm: text, key } = &call.path;
    let found = call.read(|fleet, sight| {
        let vm = find(fleet, sight, text)?.id;
        let value = fleet.annotation(vm, key).ok_or_else(|| not_found(key))?.to_owned();
        Ok(AnnotationView { vm, key: key.clone(), value })
    });
    found.await?.map(Found)
}

async fn write(
    call: Call<AnnotationPath, Nothing, Json<AnnotationWrite>>,
) -> Result<Found<AnnotationView>, Problem> {
    let (key, value) = (call.path.key.clone(), call.body.0.value.clone());
    check_key(&key).and_then(|()| check_value(&value)).map_err(invalid)?;
    let vm = named(&call, &call.path.vm).await?;
    let view = AnnotationView { vm, key, value };
    let (key, value) = (view.key.clone(), Some(view.value.clone()));
    let intent = call.authorize(Intent::Annotate { vm, key, value })?;
    // What was written is known, whatever was written after it.
    call.api.propose(intent, call.request).await?;
    Ok(Found(view))
}

async fn remove(call: Call<AnnotationPath, Nothing, NoBody>) -> Result<Done, Problem> {
    let (vm, key) = (named(&call, &call.path.vm).await?, call.path.key.clone());
    let intent = call.authorize(Intent::Annotate { vm, key, value: None })?;
    call.api.propose(intent, call.request).await?;
    Ok(Done)
}

fn invalid(wrong: InvalidField) -> Problem {
    Problem::new(Code::InvalidRequest, wrong.to_string()).about(wrong.field)
}

fn not_found(key: &str) -> Problem {
    let key: String = key.chars().take(128).collect();
    Problem::new(Code::NotFound, format!("the machine has no annotation `{key}`")).about("key")
}
