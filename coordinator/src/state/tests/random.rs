//! Random commands and reports: whatever happens, the invariants hold, and the same log gives the same bytes.

use std::collections::BTreeSet;

use novacron_protocol::access::{AccessRole, BindingEffect, Permission, Scope};
use novacron_protocol::alert::{AlertKey, AlertKind, AlertObject, Condition};
use novacron_protocol::api::{Code, PrincipalKind, PrincipalState, Severity};
use novacron_protocol::effect::{
    EffectOutcome, Handover, MachineReport, MigrationEnd, ObservedState, Report, SourceResult,
};
use novacron_protocol::ids::{
    AlertId, ApiKeyId, BindingId, Generation, MigrationId, NetworkName, PlanName, ProjectName,
    RegionCode, SnapshotId, VmId,
};
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationPhase};
use novacron_protocol::network::NetworkUsers;
use novacron_protocol::node::NodeState;
use novacron_protocol::project::{ProjectState, Quota, Quotas};
use novacron_protocol::region::{RegionStatus, Residency, ResidencyRules};
use novacron_protocol::usage::{HOUR_S, Meter, UsageRecord};
use novacron_protocol::vm::{DiskFormat, Labels};
use novacron_transport::SubjectName;
use novacron_transport::token::SecretHash;
use proptest::prelude::*;

use crate::outbox::reconcile;
use crate::state::alert::{AlertOrder, Observed, Raise};
use crate::state::api_key::ApiKey;
use crate::state::binding::{NewBinding, Right};
use crate::state::formats::{FormatVersion, Formats};
use crate::state::ledger::correct::CorrectUsage;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Price, RateCard};
use crate::state::network::{NetworkEdit, NetworkOrder};
use crate::state::principal::AccessOrder;
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::refused::RefusedRow;
use crate::state::region::{RegionEdit, RegionOrder};
use crate::state::secret::keys::SecretKeyId;
use crate::state::secret::{SealedValue, SecretOrder, SecretPlace};
use crate::state::snapshot::{SnapshotDeed, SnapshotOrder};
use crate::state::table::Key;
use crate::state::testing::{
    Scene, account, facts, failed, name, operator_named, progress, spec_in,
};
use crate::state::{Body, Credential, Fleet};

const NODES: [&str; 3] = ["node-01", "node-02", "node-03"];

/// One step, as numbers that are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Join { node: u8, with_inventory: bool },
    Create { name: u8, node: Option<u8>, start: bool, project: u8 },
    Project { project: u8, what: u8, limit: Option<u8> },
    Access { principal: u8, what: u8, project: u8, is_allow: bool },
    Ask { principal: u8, vm: u8, by_key: bool },
    Place { vm: u8, node: u8 },
    Start { vm: u8 },
    Stop { vm: u8, force: bool },
    Destroy { vm: u8 },
    Migrate { vm: u8, target: u8, mode: MigrationMode },
    Cancel { migration: u8 },
    Settle { effect: u8, outcome: u8 },
    Observe { vm: u8, generation: u8, state: u8, node: u8 },
    Progress { migration: u8, node: u8, phase: u8, bytes: u8 },
    HandOver { migration: u8, node: u8 },
    SourceEnd { migration: u8, node: u8, result: u8 },
    SetNode { node: u8, state: u8 },
    Expire { hours: u8 },
    Drain { node: u8 },
    Undrain { node: u8, cancel: bool },
    Lead { migration: u8 },
    Ledger { what: u8, vm: u8, number: u8 },
    Restore,
    Annotate { vm: u8, key: u8, length: u8 },
    Region { what: u8, region: u8, other: u8 },
    Secret { what: u8, place: u8, key: u8 },
    Formats { newest: u8, leaves_one_out: bool },
    Snapshot { vm: u8, name: u8, what: u8 },
    Alert { what: u8, object: u8, number: u8 },
    Network { what: u8, network: u8, other: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let any_bool = any::<bool>;
    let n = any::<u8>;
    prop_oneof![
        1 => (n(), any_bool()).prop_map(|(node, with_inventory)| Step::Join { node, with_inventory }),
        3 => (n(), proptest::option::of(n()), any_bool(), n())
            .prop_map(|(name, node, start, project)| Step::Create { name, node, start, project }),
        2 => (n(), n(), proptest::option::of(0..6u8))
            .prop_map(|(project, what, limit)| Step::Project { project, what, limit }),
        3 => (n(), n(), n(), any_bool()).prop_map(|(principal, what, project, is_allow)| {
            Step::Access { principal, what, project, is_allow }
        }),
        2 => (n(), n(), any_bool())
            .prop_map(|(principal, vm, by_key)| Step::Ask { principal, vm, by_key }),
        1 => (n(), n()).prop_map(|(vm, node)| Step::Place { vm, node }),
        2 => n().prop_map(|vm| Step::Start { vm }),
        1 => (n(), any_bool()).prop_map(|(vm, force)| Step::Stop { vm, force }),
        1 => n().prop_map(|vm| Step::Destroy { vm }),
        4 => (n(), n(), mode()).prop_map(|(vm, target, mode)| Step::Migrate { vm, target, mode }),
        1 => n().prop_map(|migration| Step::Cancel { migration }),
        12 => (n(), n()).prop_map(|(effect, outcome)| Step::Settle { effect, outcome }),
        2 => (n(), n(), n(), n())
            .prop_map(|(vm, generation, state, node)| Step::Observe { vm, generation, state, node }),
        1 => (n(), n(), n(), n())
            .prop_map(|(migration, node, phase, bytes)| Step::Progress { migration, node, phase, bytes }),
        3 => (n(), n()).prop_map(|(migration, node)| Step::HandOver { migration, node }),
        3 => (n(), n(), n())
            .prop_map(|(migration, node, result)| Step::SourceEnd { migration, node, result }),
        1 => (n(), n()).prop_map(|(node, state)| Step::SetNode { node, state }),
        1 => n().prop_map(|hours| Step::Expire { hours }),
        1 => n().prop_map(|node| Step::Drain { node }),
        1 => (n(), any_bool()).prop_map(|(node, cancel)| Step::Undrain { node, cancel }),
        3 => n().prop_map(|migration| Step::Lead { migration }),
        3 => (n(), n(), n()).prop_map(|(what, vm, number)| Step::Ledger { what, vm, number }),
        1 => Just(Step::Restore),
        2 => (n(), n(), n()).prop_map(|(vm, key, length)| Step::Annotate { vm, key, length }),
        2 => (n(), n(), n()).prop_map(|(what, region, other)| Step::Region { what, region, other }),
        1 => (1..3u8, any_bool())
            .prop_map(|(newest, leaves_one_out)| Step::Formats { newest, leaves_one_out }),
        4 => (n(), n(), n()).prop_map(|(what, place, key)| Step::Secret { what, place, key }),
        4 => (n(), n(), n()).prop_map(|(vm, name, what)| Step::Snapshot { vm, name, what }),
        4 => (n(), n(), n()).prop_map(|(what, object, number)| Step::Alert { what, object, number }),
        3 => (n(), n(), n())
            .prop_map(|(what, network, other)| Step::Network { what, network, other }),
    ]
}

fn mode() -> impl Strategy<Value = MigrationMode> {
    prop::sample::select(vec![MigrationMode::Live, MigrationMode::Cold, MigrationMode::Warm])
}

fn pick<T: Clone>(items: &[T], number: u8) -> Option<T> {
    items.get(usize::from(number) % items.len().max(1)).cloned()
}

fn node(number: u8) -> &'static str {
    NODES[usize::from(number) % NODES.len()]
}

fn observed(number: u8) -> ObservedState {
    use ObservedState::{Failed, Paused, Running, Stopped};
    [Stopped, Running, Paused, Failed][usize::from(number) % 4]
}

fn phase(number: u8) -> MigrationPhase {
    use MigrationPhase::{Cleanup, DataSync, DiskSync, Switchover, Verify};
    [DiskSync, DataSync, Switchover, Verify, Cleanup][usize::from(number) % 5]
}

fn project_named(number: u8) -> ProjectName {
    ["default", "own", "other"][usize::from(number) % 3].parse().unwrap()
}

fn principal_named(number: u8) -> SubjectName {
    ["admin", "one", "two"][usize::from(number) % 3].parse().unwrap()
}

fn vm_salt(vm: VmId) -> u8 {
    vm.0.as_bytes()[15]
}

fn project_order(project: u8, what: u8, limit: Option<u8>) -> ProjectOrder {
    let project = project_named(project);
    let limit = limit.map(u64::from);
    match what % 6 {
        0 | 1 => ProjectOrder::Create {
            project,
            display_name: String::new(),
            quotas: Quotas { vms: limit, ..Quotas::default() },
            labels: Labels::new(),
            residency: Residency::default(),
        },
        2 => ProjectOrder::Delete { project },
        number => {
            let quota = Quota::ALL[usize::from(number) % Quota::ALL.len()];
            let state = limit.map(|limit| match limit {
                0 => ProjectState::Suspended,
                _ => ProjectState::Active,
            });
            let edit =
                ProjectEdit { state, quotas: vec![(quota, limit)], ..ProjectEdit::default() };
            ProjectOrder::Change { project, edit }
        }
    }
}

fn region_body(what: u8, region: u8, other: u8) -> Body {
    let code =
        |number: u8| -> RegionCode { ["eu", "us"][usize::from(number) % 2].parse().unwrap() };
    let (region, target) = (code(region), code(other));
    let named = (!other.is_multiple_of(3)).then_some(target.clone());
    let rules = ResidencyRules { may_leave_to: Some(named.clone().into_iter().collect()) };
    match what % 6 {
        0 | 1 => Body::Regions(RegionOrder::Create {
            region,
            name: String::new(),
            certifications: BTreeSet::new(),
            rules: ResidencyRules::default(),
        }),
        2 => {
            let status = [RegionStatus::Active, RegionStatus::Draining][usize::from(other) % 2];
            let (rules, status) = (Some(rules), Some(status));
            let edit = RegionEdit { name: None, certifications: None, rules, status };
            let order = match other % 4 {
                0 | 1 => RegionOrder::Change { region, edit },
                _ => {
                    let latencies_ms = named.into_iter().map(|to| (to, other.into())).collect();
                    RegionOrder::ChangeWithLatencies { region, edit, latencies_ms }
                }
            };
            Body::Regions(order)
        }
        3 => Body::Regions(RegionOrder::Delete { region }),
        4 => Body::Regions(RegionOrder::Assign { node: name(node(other)), region: named }),
        _ => {
            let regions = named.into_iter().collect();
            let residency = Some(Residency { regions, certifications: BTreeSet::new() });
            let edit = ProjectEdit { residency, ..ProjectEdit::default() };
            Body::Projects(ProjectOrder::Change { project: project_named(other), edit })
        }
    }
}

struct Walk {
    scene: Scene,
    /// Whether a target got a machine whose source had said that it kept it.
    is_late: bool,
}

impl Walk {
    fn vm(&self, number: u8) -> Option<VmId> {
        pick(&self.scene.fleet.vms().map(|vm| vm.id).collect::<Vec<_>>(), number)
    }

    fn network_body(&mut self, what: u8, number: u8, other: u8) -> Body {
        let text = ["a", "b"][usize::from(number) % 2];
        let network: NetworkName = text.parse().unwrap();
        let users = match other % 3 {
            0 => NetworkUsers::All,
            _ => NetworkUsers::Projects(BTreeSet::from([project_named(other)])),
        };
        let regions: BTreeSet<RegionCode> = match other / 3 % 3 {
            0 => BTreeSet::new(),
            more => BTreeSet::from([["eu", "us"][usize::from(more) % 2].parse().unwrap()]),
        };
        let bridge = format!("br{}", other % 2);
        match what % 6 {
            0 | 1 => {
                let description = String::new();
                let create = NetworkOrder::Create { network, description, bridge, users, regions };
                Body::Networks(create)
            }
            2 => {
                let (regions, users) = (Some(regions), Some(users));
                let bridge = (number / 2).is_multiple_of(4).then_some(bridge);
                let edit = NetworkEdit { description: None, bridge, users, regions };
                Body::Networks(NetworkOrder::Change { network, edit })
            }
            3 => Body::Networks(NetworkOrder::Delete { network }),
            _ => {
                let spec = spec_in(&project_named(other), &format!("vm-{}", other % 8));
                self.scene.create_in_body(spec, text, None)
            }
        }
    }

    fn migration(&self, number: u8) -> Option<MigrationId> {
        let open: Vec<_> = self.scene.fleet.open_migrations().map(|row| row.id).collect();
        let all: Vec<_> = self.scene.fleet.migrations().map(|row| row.id).collect();
        pick(if open.is_empty() { &all } else { &open }, number)
    }

    fn alert_body(&mut self, what: u8, object: u8, number: u8) -> Option<Body> {
        let object = match object % 5 {
            0 => AlertObject::Vm(self.vm(number)?),
            1 => AlertObject::Migration(self.migration(number)?),
            2 => AlertObject::Project(project_named(number)),
            3 => AlertObject::Node(name(node(number))),
            _ => AlertObject::Cluster,
        };
        let all: Vec<_> = self.scene.fleet.alerts_after(None).map(|alert| alert.id).collect();
        let (alert, note) = (pick(&all, number), String::new());
        let raise = |kind, id| {
            let severity = [Severity::Critical, Severity::Info][usize::from(number) % 2];
            Raise { id, key: AlertKey { kind, object }, severity, summary: "s".to_owned() }
        };
        let id = AlertId(self.scene.id());
        Some(Body::Alerts(match what % 6 {
            0 | 1 => AlertOrder::Raise(raise(AlertKind::Named("slow".parse().unwrap()), id)),
            2 => AlertOrder::Observe(Observed {
                raises: vec![raise(AlertKind::Condition(Condition::VmFailed), id)],
                over: alert.into_iter().map(|alert| (alert, note.clone())).collect(),
            }),
            3 => AlertOrder::Acknowledge { alert: alert?, note },
            4 => AlertOrder::Resolve { alert: alert?, note },
            _ => {
                let micro_dollars_per_month = Some(u64::from(number));
                let project = project_named(number);
                let order = ProjectOrder::SetBudget { project, micro_dollars_per_month };
                return Some(Body::Projects(order));
            }
        }))
    }

    fn inventory(&self, node: &str) -> Vec<MachineReport> {
        let here = self.scene.fleet.vms().filter(|vm| vm.node == Some(name(node)));
        here.map(|vm| MachineReport {
            vm: vm.id,
            generation: vm.generation,
            state: ObservedState::Running,
            reason: String::new(),
        })
        .collect()
    }

    fn report(&mut self, node: &str, report: Report) {
        if self.scene.fleet.node(&name(node)).is_some() {
            self.scene.report(node, vec![report]).unwrap();
        }
    }

    fn take(&mut self, step: &Step) -> Option<()> {
        match *step {
            Step::Join { node: at, with_inventory } => {
                let machines = if with_inventory { self.inventory(node(at)) } else { Vec::new() };
                self.scene.hello(node(at), facts(8), machines);
            }
            Step::Project { project, what, limit } => {
                let order = project_order(project, what, limit);
                let _ = self.scene.apply(Body::Projects(order));
            }
            Step::Access { principal, what, project, is_allow } => {
                let order = self.access_order(principal, what, project, is_allow);
                let _ = self.scene.apply(Body::Access(order));
            }
            Step::Ask { principal, vm, by_key } => self.ask(principal, vm, by_key)?,
            Step::Create { name, node: at, start, project } => {
                let mut spec = spec_in(&project_named(project), &format!("vm-{}", name % 8));
                if name % 4 > 0 {
                    spec.disks[0].format = DiskFormat::Qcow2;
                }
                let body = self.scene.create_body(spec, at.map(node), start);
                let _ = self.scene.apply(body);
            }
            Step::Place { vm, node: at } => {
                let vm = self.vm(vm)?;
                let _ = self.scene.apply(Body::PlaceVm { vm, node: name(node(at)) });
            }
            Step::Start { vm } => drop(self.scene.apply(Body::StartVm { vm: self.vm(vm)? })),
            Step::Stop { vm, force } => {
                let vm = self.vm(vm)?;
                let _ = self.scene.apply(Body::StopVm { vm, force });
            }
            Step::Destroy { vm } => drop(self.scene.apply(Body::DestroyVm { vm: self.vm(vm)? })),
            Step::Migrate { vm, target, mode } => {
                let _ = self.scene.migrate(self.vm(vm)?, node(target), mode);
            }
            Step::Cancel { migration } => {
                let migration = self.migration(migration)?;
                let _ = self.scene.apply(Body::CancelMigration { migration });
            }
            Step::Settle { effect, outcome } => self.settle(effect, outcome)?,
            Step::Observe { vm, generation, state, node: at } => {
                let report = MachineReport {
                    vm: self.vm(vm)?,
                    generation: Generation(u64::from(generation % 4)),
                    state: observed(state),
                    reason: String::new(),
                };
                self.report(node(at), Report::Machine(report));
            }
            Step::Progress { migration, node: at, phase: reached, bytes } => {
                let migration = self.migration(migration)?;
                let progress = progress(phase(reached), u64::from(bytes));
                self.report(node(at), Report::Progress { migration, progress });
            }
            Step::HandOver { migration, node: at } => {
                let row = self.scene.migration(self.migration(migration)?).clone();
                self.is_late |= row.step.is_ended();
                let (migration, vm, generation) = (row.id, row.vm, row.target_generation);
                let handover = Handover { migration, vm, generation };
                self.report(node(at), Report::HandedOver(handover));
            }
            Step::SourceEnd { migration, node: at, result } => {
                let row = self.scene.migration(self.migration(migration)?).clone();
                let result = match result % 3 {
                    0 => SourceResult::Completed(account()),
                    1 => SourceResult::Failed { reason: "a test".to_owned() },
                    _ => SourceResult::Cancelled,
                };
                let end =
                    MigrationEnd { target: row.target, phase: MigrationPhase::DataSync, result };
                self.report(node(at), Report::MigrationEnded { migration: row.id, end });
            }
            Step::SetNode { node: at, state } => {
                let state =
                    [NodeState::Ready, NodeState::Suspect, NodeState::Down][usize::from(state) % 3];
                self.scene.set_node(node(at), state);
            }
            Step::Expire { hours } => {
                self.scene.now = self.scene.now.plus_ms(u64::from(hours) * 3_600_000 / 16);
                let expired = self.scene.fleet.expired_effects(self.scene.now);
                self.scene.apply(Body::ExpireEffects(expired)).unwrap();
            }
            Step::Drain { node: at } => {
                let (node, options) = (name(node(at)), MigrationOptions::default());
                let _ = self.scene.apply(Body::DrainNode { node, options });
            }
            Step::Undrain { node: at, cancel } => {
                let _ = self.scene.apply(Body::UndrainNode { node: name(node(at)), cancel });
            }
            Step::Lead { migration } => self.lead(migration),
            Step::Ledger { what, vm, number } => {
                let body = self.ledger_body(what, self.vm(vm)?, u64::from(number));
                let _ = self.scene.apply(body);
            }
            Step::Restore => self.scene.restore("c9"),
            Step::Snapshot { vm, name, what } => {
                let (vm, id) = (self.vm(vm)?, SnapshotId(self.scene.id()));
                let deed = [SnapshotDeed::Create(id), SnapshotDeed::Restore, SnapshotDeed::Delete]
                    [usize::from(what) % 3];
                let name = format!("s{}", name % 4).parse().unwrap();
                let _ = self.scene.apply(Body::Snapshots(SnapshotOrder { vm, name, deed }));
            }
            Step::Alert { what, object, number } => {
                let body = self.alert_body(what, object, number)?;
                let _ = self.scene.apply(body);
            }
            Step::Network { what, network, other } => {
                let body = self.network_body(what, network, other);
                let _ = self.scene.apply(body);
            }
            Step::Region { what, region, other } => {
                let _ = self.scene.apply(region_body(what, region, other));
            }
            Step::Annotate { vm, key, length } => {
                let (vm, key) = (self.vm(vm)?, format!("key-{}", key % 70));
                let value = (length % 4 > 0).then(|| "v".repeat(usize::from(length)));
                let _ = self.scene.apply(Body::Annotate { vm, key, value });
            }
            Step::Formats { newest, leaves_one_out } => {
                let present = self.scene.fleet.present_members().map(|member| member.id);
                let newest = FormatVersion(u16::from(newest)).max(self.scene.fleet.formats());
                let formats = Formats { newest, ..Formats::default() };
                let said = present.skip(usize::from(leaves_one_out)).map(|id| (id, formats));
                let said = said.collect();
                let _ = self.scene.apply(Body::NoteFormats(said));
            }
            Step::Secret { what, place, key } => {
                let order = self.secret_order(what, place, key);
                let _ = self.scene.apply(Body::Secrets(order));
            }
        }
        Some(())
    }

    /// Somebody asks for something with a machine; what it gets is what the bindings say.
    fn ask(&mut self, principal: u8, vm: u8, by_key: bool) -> Option<()> {
        let vm = self.vm(vm)?;
        let mut asker = operator_named(principal_named(principal).as_str());
        if by_key {
            let key = pick(&self.scene.fleet.api_keys_after(None).collect::<Vec<_>>(), vm_salt(vm));
            asker.credential = Credential::ApiKey(key?.id.0);
            asker.name = key?.principal.clone();
        }
        let project = self.scene.fleet.project_of_vm(vm)?.clone();
        let reach = self.scene.fleet.reach(&asker.name, Permission::VmOperate);
        let may = self.scene.fleet.identify(&asker, self.scene.now).is_ok()
            && reach.covers(&Scope::Project(project));
        let reply = self.scene.ask(&asker, Body::StopVm { vm, force: true });
        let codes = [Code::NotAllowed, Code::NotAuthenticated];
        let is_refused = reply.is_err_and(|refusal| codes.contains(&refusal.code()));
        assert_ne!(may, is_refused);
        Some(())
    }

    fn access_order(&mut self, principal: u8, what: u8, project: u8, allows: bool) -> AccessOrder {
        let name = principal_named(principal);
        let id = self.scene.id();
        match what % 8 {
            0 => {
                let kind = if allows { PrincipalKind::Operator } else { PrincipalKind::Service };
                AccessOrder::CreatePrincipal { name, kind, display_name: String::new() }
            }
            1 => {
                let state = if allows { PrincipalState::Active } else { PrincipalState::Disabled };
                AccessOrder::ChangePrincipal { name, state: Some(state), display_name: None }
            }
            2 => AccessOrder::DeletePrincipal { name },
            3..=5 => {
                let right = [
                    Right::Role(AccessRole::Admin),
                    Right::Role(AccessRole::Operator),
                    Right::Permissions("vm.*".parse().unwrap()),
                ];
                let scope = match project % 3 {
                    0 => Scope::Fleet,
                    other => Scope::Project(project_named(other)),
                };
                let effect = if allows { BindingEffect::Allow } else { BindingEffect::Deny };
                let right = right[usize::from(what % 3)].clone();
                AccessOrder::Bind(NewBinding {
                    id: BindingId(id),
                    principal: name,
                    right,
                    scope,
                    effect,
                })
            }
            6 => {
                let all: Vec<_> = self.scene.fleet.bindings_after(None).map(|one| one.id).collect();
                let binding = pick(&all, project).unwrap_or(BindingId(id));
                AccessOrder::Unbind { binding }
            }
            _ => self.key_order(name, project, allows),
        }
    }

    fn key_order(&mut self, principal: SubjectName, salt: u8, makes: bool) -> AccessOrder {
        let all: Vec<_> = self.scene.fleet.api_keys_after(None).map(|key| key.id).collect();
        match pick(&all, salt) {
            Some(key) if !makes => AccessOrder::RevokeKey { key },
            _ => AccessOrder::CreateKey(ApiKey {
                id: ApiKeyId(self.scene.id()),
                principal,
                name: "a test".to_owned(),
                secret_hash: SecretHash([salt; 32]),
                created_at: self.scene.now,
                expires_at: self.scene.now.plus_ms(u64::from(salt) * 600_000),
            }),
        }
    }

    /// What a member refused.
    fn refused(&self, number: u64) -> RefusedRow {
        let (first_at, last_at) = (self.scene.now, self.scene.now.plus_ms(number));
        RefusedRow {
            shown: "nobody".to_owned(),
            address: None,
            operation: "listVms".to_owned(),
            code: Code::NotAuthenticated,
            count: number,
            first_at,
            last_at,
        }
    }

    /// Something about a few secrets and keys, mostly what is next for them.
    fn secret_order(&mut self, what: u8, number: u8, key: u8) -> SecretOrder {
        let project = (!number.is_multiple_of(3)).then(|| project_named(number));
        let place =
            SecretPlace { project, name: ["a", "b"][usize::from(number % 2)].parse().unwrap() };
        let keys = self.scene.fleet.secret_keys();
        let known = pick(&keys.wanted().collect::<Vec<_>>(), key);
        let key = known.unwrap_or(SecretKeyId([key % 4; 8]));
        let value = |id| SealedValue { id, key, sealed: vec![number; usize::from(number)] };
        match what % 8 {
            0 => SecretOrder::Delete { place },
            1 => SecretOrder::Reveal { place },
            2 => SecretOrder::Turn,
            3 => SecretOrder::Announce { key: SecretKeyId([number % 4; 8]) },
            4 => SecretOrder::Use { key },
            5 => SecretOrder::Forget { key },
            6 => {
                let rows = self.scene.fleet.secrets_to_reseal().take(2);
                let anew = |row: &SealedValue| SealedValue { key, ..row.clone() };
                let values = rows.map(|(place, row)| (place.clone(), anew(&row.value)));
                SecretOrder::Reseal(values.collect())
            }
            _ => SecretOrder::Put { place, value: value(self.scene.id()), mark: u64::from(number) },
        }
    }

    /// Something about the ledger, around the present hour.
    fn ledger_body(&self, what: u8, vm: VmId, number: u64) -> Body {
        let (now_s, hour) = (self.scene.now.unix_ms / 1000, Hour::of(self.scene.now));
        let start_s = now_s - number * 60;
        let plan: PlanName = if number < 99 { "standard" } else { "own" }.parse().unwrap();
        match what % 9 {
            0 => Body::SealWindows { through: Hour(hour.0 - number % 8) },
            8 => Body::NoteRefusals { rows: vec![self.refused(number); usize::from(what % 4)] },
            1 => Body::CorrectUsage(CorrectUsage {
                entry: EntryId { window: Hour(hour.0 - number % 4), index: number },
                quantity: u128::from(number),
                reason: "a test".to_owned(),
                actor: "alice".to_owned(),
                original: None,
            }),
            2 => Body::SetRate(RateCard {
                plan,
                valid_from: Hour(hour.0 + number % 3),
                vms_max: Some(4),
                prices: [Price::each(number); 5],
            }),
            3 => Body::SetPlan { project: ProjectName::default(), plan, from: hour },
            _ => Body::PostUsage {
                node: name(node(what)),
                records: vec![UsageRecord {
                    vm,
                    generation: Generation(number % 3),
                    meter: Meter::VmSeconds,
                    start_s,
                    end_s: (start_s + number).min((start_s / HOUR_S + 1) * HOUR_S),
                    level: 1,
                }],
            },
        }
    }

    /// A leader's turn, whose ids are sometimes those of an earlier one.
    fn lead(&mut self, salt: u8) {
        let mut ids = 1_000_000 + u128::from(salt) * 1000;
        let new_migration = || {
            ids += 1;
            MigrationId(uuid::Uuid::from_u128(ids))
        };
        for body in reconcile::due(&self.scene.fleet, self.scene.now, new_migration) {
            let _ = self.scene.apply(body);
        }
    }

    fn settle(&mut self, effect: u8, outcome: u8) -> Option<()> {
        let rows: Vec<_> = self.scene.fleet.outbox_after(Default::default()).cloned().collect();
        let row = pick(&rows, effect)?;
        let outcome = match outcome % 8 {
            0 => failed("a test"),
            1 => EffectOutcome::Stale { held: None },
            2 => EffectOutcome::Stale { held: Some(Generation(9)) },
            _ => EffectOutcome::Done,
        };
        self.report(row.node.as_str(), Report::EffectDone { effect: row.effect.id, outcome });
        Some(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_replay_gives_the_same_bytes(steps in proptest::collection::vec(step(), 1..80)) {
        let mut walk = Walk { scene: Scene::new(), is_late: false };
        walk.scene.found();
        for node in NODES {
            walk.scene.join(node, 8);
        }
        for step in &steps {
            // `Scene::apply` checks every invariant after every command.
            let _ = walk.take(step);
            if !walk.is_late {
                walk.scene.fleet.check_memory().unwrap();
            }
        }
        crate::view::overview::tests::check(&walk.scene.fleet);
        let hash = walk.scene.fleet.state_hash().unwrap();
        prop_assert_eq!(walk.scene.replay().state_hash().unwrap(), hash);

        let mut rows = Vec::new();
        walk.scene.fleet.frozen().visit_rows(|row| rows.push(row)).unwrap();
        let from_tables = Fleet::from_rows(rows).unwrap();
        prop_assert_eq!(from_tables.state_hash().unwrap(), hash);
        from_tables.check().unwrap();

        let snapshot = walk.scene.fleet.to_snapshot().unwrap();
        prop_assert_eq!(Fleet::hash_of_snapshot(&snapshot), hash);
        let from_snapshot = Fleet::from_snapshot(&snapshot).unwrap();
        prop_assert_eq!(from_snapshot.state_hash().unwrap(), hash);
        from_snapshot.check().unwrap();
    }

    #[test]
    fn a_damaged_snapshot_is_read_or_refused(at in any::<proptest::sample::Index>(), bit in 0..8u8, cut in any::<bool>()) {
        let mut scene = Scene::new();
        let admin = scene.found();
        let project = scene.make_project("own", Quotas::default());
        let denied = Right::Permissions("vm.*".parse().unwrap());
        scene.bind(&admin, denied, Scope::Project(project), BindingEffect::Deny).unwrap();
        scene.join("node-01", 8);
        scene.running("web", "node-01");
        let mut bytes = scene.fleet.to_snapshot().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if cut {
            bytes.truncate(at);
        }
        let _ = Fleet::from_snapshot(&bytes);
    }

    #[test]
    fn any_bytes_are_a_message_of_a_member_or_a_typed_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        use novacron_protocol::wire::codec::decode;
        let versioned = [1, 2].map(|version| [&[version, 0][..], &bytes].concat());
        for bytes in versioned.iter().chain([&bytes]) {
            let _ = decode::<crate::peers::message::PeerRequest>(bytes);
            let _ = decode::<crate::peers::message::PeerResponse>(bytes);
            let _ = decode::<crate::state::Command>(bytes);
            let _ = decode::<crate::state::secret::Secret>(bytes);
            let _ = decode::<crate::state::secret::keys::SecretKeys>(bytes);
            let _ = <SecretPlace as Key>::decode(bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_a_typed_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Fleet::from_snapshot(&bytes);
        let headed = [&b"ncfleet\0\x01\0\0\0"[..], &bytes].concat();
        let _ = Fleet::from_snapshot(&headed);
    }
}
