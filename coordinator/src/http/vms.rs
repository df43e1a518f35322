//! Virtual machines.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    Code, MigrationView, Page, Problem, VmCreate, VmMigrate, VmStop, VmView,
};
use novacron_protocol::ids::{RequestId, VmId};
use novacron_protocol::vm::{InvalidField, Labels, VmState};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Created, Found};
use super::body::{Json, NoBody, OptionalJson};
use super::call::check_seen;
use super::lists::{Cursors, ListQuery};
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, post};
use super::search::{Sought, labels};
use super::{migrations, nodes};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::vm::Vm;
use crate::state::{Accepted as Applied, Fleet};
use crate::view::resource::{vm_view, whole_vm_view};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/vms", "listVms", "List machines")
            .needs(Permission::VmRead, Where::Somewhere)
            .may_be_stale()
            .to(list),
        post("/api/v1/vms", "createVm", "Create a machine")
            .needs(Permission::VmCreate, Where::Somewhere)
            .refuses(&[
                Code::NotFound,
                Code::NameTaken,
                Code::Conflict,
                Code::NoCapacity,
                Code::QuotaExceeded,
                Code::ResidencyRule,
                Code::IdempotencyConflict,
            ])
            .to(create),
        get("/api/v1/vms/{vm}", "getVm", "Show a machine")
            .needs(Permission::VmRead, Where::Machine)
            .refuses(&[Code::NotFound])
            .may_be_stale()
            .to(show),
        delete("/api/v1/vms/{vm}", "deleteVm", "Destroy a machine and its disks")
            .needs(Permission::VmDelete, Where::Machine)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(destroy),
        post("/api/v1/vms/{vm}/start", "startVm", "Start a machine")
            .needs(Permission::VmOperate, Where::Machine)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(start),
        post("/api/v1/vms/{vm}/stop", "stopVm", "Stop a machine")
            .needs(Permission::VmOperate, Where::Machine)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(stop),
        post("/api/v1/vms/{vm}/migrate", "migrateVm", "Move a machine to another node")
            .needs(Permission::VmMigrate, Where::Machine)
            .refuses(&[
                Code::NotFound,
                Code::Conflict,
                Code::NoCapacity,
                Code::QuotaExceeded,
                Code::ResidencyRule,
                Code::HasSnapshots,
                Code::IdempotencyConflict,
            ])
            .to(migrate),
    ]
}

/// Which machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VmPath {
    /// Name or id of the machine.
    pub(super) vm: String,
}

/// Which machines, and which part of the list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VmsQuery {
    /// Only machines whose name, node, label values or images have this text somewhere, whatever its case; 1 to 128 bytes.
    #[serde(default)]
    text: Option<String>,
    /// Only the machine of this name.
    #[serde(default)]
    name: Option<String>,
    /// Only machines with this label, as `key=value`. May be repeated: all of them must be there.
    #[serde(default)]
    label: Vec<String>,
    /// Only machines of this project.
    #[serde(default)]
    project: Option<String>,
    /// Only machines on this node.
    #[serde(default)]
    node: Option<String>,
    /// Only machines on nodes that stand in this region.
    #[serde(default)]
    region: Option<String>,
    /// Only machines in this network.
    #[serde(default)]
    network: Option<String>,
    /// Only machines in this state. Deleted ones are listed only when they are asked for.
    #[serde(default)]
    state: Option<VmState>,
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// Number of the page, from 1; instead of a cursor.
    #[serde(default)]
    page: Option<u32>,
}

async fn list(call: Call<Nothing, VmsQuery, NoBody>) -> Result<Found<Page<VmView>>, Problem> {
    let query = call.query.clone();
    let list = ListQuery { limit: query.limit, cursor: query.cursor, page: query.page };
    let mut page = list.window(|text| CURSORS.parse(text))?.gather();
    // A text is looked for in all labels.
    let is_scan = list.is_scan() || query.text.is_some();
    let filter = Filter {
        text: Sought::parse(query.text.as_deref())?,
        name: query.name,
        labels: labels(&query.label)?,
        project: query.project,
        node: query.node,
        region: query.region,
        network: query.network,
        state: query.state,
    };
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        // The first id of all is no machine's.
        let after = page.after().copied().unwrap_or(VmId(uuid::Uuid::nil()));
        let is_shown = |vm: &Vm| sight.sees(&vm.spec.project) && filter.lets_through(fleet, vm);
        let show = |vm: &Vm| is_shown(vm).then(|| vm_view(fleet, vm));
        Ok::<_, Problem>(page.look(fleet.revision(), fleet.vms_after(after), |vm| vm.id, show))
    };
    call.survey(is_scan, look).await?;
    page.into_page(|vm| CURSORS.write(vm)).map(Found)
}

/// Those of this list.
const CURSORS: Cursors = Cursors("vm-");

/// Which machines to show.
struct Filter {
    text: Option<Sought>,
    name: Option<String>,
    labels: Labels,
    project: Option<String>,
    node: Option<String>,
    region: Option<String>,
    network: Option<String>,
    state: Option<VmState>,
}

impl Filter {
    fn lets_through(&self, fleet: &Fleet, vm: &Vm) -> bool {
        let state = vm.state();
        let is_state = match self.state {
            Some(wanted) => state == wanted,
            None => state != VmState::Deleted,
        };
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let on = vm.node.as_ref().map(|node| node.as_str());
        let is_there = self.node.as_deref().is_none_or(|wanted| on == Some(wanted));
        is(&self.project, vm.spec.project.as_str())
            && is(&self.name, vm.spec.name.as_str())
            && is_state
            && is_there
            && self.is_in_region(fleet, vm)
            && self.is_in_network(fleet, vm)
            && vm.has_labels(&self.labels)
            && self.text.as_ref().is_none_or(|text| text.is_in_machine(vm))
    }

    fn is_in_region(&self, fleet: &Fleet, vm: &Vm) -> bool {
        let in_region = || fleet.region_of_vm(vm).map(|region| region.as_str());
        self.region.as_deref().is_none_or(|wanted| in_region() == Some(wanted))
    }

    fn is_in_network(&self, fleet: &Fleet, vm: &Vm) -> bool {
        let in_network = || fleet.network_of(vm.id).map(|network| network.as_str());
        self.network.as_deref().is_none_or(|wanted| in_network() == Some(wanted))
    }
}

async fn show(call: Call<VmPath, Nothing, NoBody>) -> Result<Found<VmView>, Problem> {
    let text = call.path.vm.clone();
    let view =
        call.read(move |fleet, sight| find(fleet, sight, &text).map(|vm| whole_vm_view(fleet, vm)));
    Ok(Found(view.await??))
}

async fn create(call: Call<Nothing, Nothing, Json<VmCreate>>) -> Result<Created<VmView>, Problem> {
    let asked = &call.body.0;
    let invalid = |wrong: InvalidField| {
        Problem::new(Code::InvalidRequest, wrong.to_string()).about(wrong.field)
    };
    let spec = asked.to_spec().map_err(invalid)?;
    let node = asked.node.as_deref().map(|name| nodes::parse("node", name)).transpose()?;
    let start = asked.start.unwrap_or(true);
    let project = spec.project.clone();
    call.foresee(|_, sight| Ok(sight.check(Scope::Project(project.clone()))?)).await?;
    let network = asked.network_name();
    let intent = call.authorize(Intent::CreateVm { spec, network, node, start })?;
    accepted_vm(&call, intent).await.map(Created)
}

async fn destroy(call: Call<VmPath, Nothing, NoBody>) -> Result<Accepted<VmView>, Problem> {
    change(&call, |vm| Intent::DestroyVm { vm }).await
}

async fn start(call: Call<VmPath, Nothing, NoBody>) -> Result<Accepted<VmView>, Problem> {
    change(&call, |vm| Intent::StartVm { vm }).await
}

async fn stop(
    call: Call<VmPath, Nothing, OptionalJson<VmStop>>,
) -> Result<Accepted<VmView>, Problem> {
    let force = call.body.0.force;
    change(&call, |vm| Intent::StopVm { vm, force }).await
}

async fn migrate(
    call: Call<VmPath, Nothing, Json<VmMigrate>>,
) -> Result<Accepted<MigrationView>, Problem> {
    let (mode, options) = (call.body.0.mode, call.body.0.options());
    let target = nodes::parse("target", &call.body.0.target)?;
    let vm = meant(&call).await?;
    let intent = call.authorize(Intent::MigrateVm { vm, target, mode, options })?;
    migrations::accepted(&call, intent).await.map(Accepted)
}

async fn change<B>(
    call: &Call<VmPath, Nothing, B>,
    intent: impl FnOnce(VmId) -> Intent,
) -> Result<Accepted<VmView>, Problem> {
    let intent = call.authorize(intent(meant(call).await?))?;
    accepted_vm(call, intent).await.map(Accepted)
}

/// Proposes, and shows the machine that it was about as it stands then.
async fn accepted_vm<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<VmView, Problem> {
    let vm = match call.propose(intent).await? {
        Applied::Vm(vm) => vm,
        other => return Err(super::unexpected("a machine", &other)),
    };
    let view = call.read(move |fleet, _| fleet.vm(vm).map(|vm| vm_view(fleet, vm))).await?;
    view.ok_or_else(|| not_found(&vm.to_string()))
}

/// The machine that a write means. A request that is repeated after it destroyed the machine finds it no more
/// under its name, but still means it.
async fn meant<B>(call: &Call<VmPath, Nothing, B>) -> Result<VmId, Problem> {
    let (text, request) = (call.path.vm.clone(), call.request);
    if let Some(known) = known(call, &text) {
        return Ok(known);
    }
    let found = call.read(move |fleet, sight| {
        let meant = repeated(fleet, request, &text).or_else(|| fleet.find_vm(&text));
        seen(sight, meant, &text).map(|vm| vm.id)
    });
    found.await?
}

/// The machine of that name that the request was about when it came before.
fn repeated<'fleet>(fleet: &'fleet Fleet, request: RequestId, name: &str) -> Option<&'fleet Vm> {
    let Ok(Applied::Vm(vm)) = fleet.kept_answer(request)?.reply else { return None };
    fleet.vm(vm).filter(|vm| vm.spec.name.as_str() == name)
}

/// The machine that a text names for a write, which is judged again when it is applied. Whose a name is, is looked up in a
/// fleet that has everything that was acknowledged before.
pub(super) async fn named<P, Q, B>(call: &Call<P, Q, B>, text: &str) -> Result<VmId, Problem> {
    match known(call, text) {
        Some(vm) => Ok(vm),
        None => call.read(|fleet, sight| find(fleet, sight, text).map(|vm| vm.id)).await?,
    }
}

/// The machine of an id that this member knows: it means the same on every other, now and later.
fn known<P, Q, B>(call: &Call<P, Q, B>, text: &str) -> Option<VmId> {
    let found = call.glance(|fleet, sight| find(fleet, sight, text).map(|vm| vm.id)).ok();
    found.filter(|vm| text.parse() == Ok(*vm))
}

/// The machine that a client means, if it may do with it what it asks for.
pub(super) fn find<'fleet>(
    fleet: &'fleet Fleet,
    sight: &Sight<'_>,
    text: &str,
) -> Result<&'fleet Vm, Problem> {
    seen(sight, fleet.find_vm(text), text)
}

fn seen<'fleet>(
    sight: &Sight<'_>,
    vm: Option<&'fleet Vm>,
    text: &str,
) -> Result<&'fleet Vm, Problem> {
    let vm = vm.ok_or_else(|| not_found(text))?;
    check_seen(sight, &vm.spec.project, || not_found(text))?;
    Ok(vm)
}

/// Whether the caller may do what it asks for with a machine, if it is there.
pub(super) fn check(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<(), Problem> {
    let Some(vm) = fleet.find_vm(text) else { return Ok(()) };
    seen(sight, Some(vm), text).map(drop)
}

fn not_found(text: &str) -> Problem {
    let text: String = text.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no machine `{text}`")).about("vm")
}
