//! What a member does for clients: as its API does, without HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use novacron_coordinator::clock::{Clock, new_request, new_uuid};
use novacron_coordinator::ledger::{Ledger, LedgerError};
use novacron_coordinator::peers::desk::Desk;
use novacron_coordinator::peers::{Answer, Call, LeaderError, LeaderLink};
use novacron_coordinator::planner;
use novacron_coordinator::propose::{ProposeError, Proposer};
use novacron_coordinator::state::command::{CreateVm, OpenSession, SessionReports};
use novacron_coordinator::state::ledger::correct::CorrectUsage;
use novacron_coordinator::state::member::MemberRecord;
use novacron_coordinator::state::node::SessionId;
use novacron_coordinator::state::placement::Wanted;
use novacron_coordinator::state::{Accepted, Body, Command, Fleet, Origin};
use novacron_coordinator::view::View;
use novacron_protocol::api::SettingsChange;
use novacron_protocol::ids::{MemberId, MigrationId, ProjectName, RequestId, VmId, VmName};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::node::{Accelerator, NodeCapacity, NodeFacts};
use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, Labels, Network, VmSpec};

use crate::client::{Ask, Seen, Told, Wish, Write};
use crate::host::{HostAsk, HostTold, Turn};
use crate::operator::Order;
use crate::planted::Planted;
use crate::process::facts_of;

/// The front of one process. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    proposer: Proposer,
    view: View,
    desk: Desk,
    leader: LeaderLink,
    ledger: Ledger,
    clock: Clock,
    planted: Planted,
    /// Only for a planted bug: requests that were begun here.
    begun: Arc<Mutex<BTreeMap<RequestId, Accepted>>>,
}

impl Front {
    /// Of a process that starts.
    pub fn new(
        proposer: Proposer,
        (view, desk): (View, Desk),
        (leader, ledger): (LeaderLink, Ledger),
        clock: Clock,
        planted: Planted,
    ) -> Self {
        Self { proposer, view, desk, leader, ledger, clock, planted, begun: Arc::default() }
    }

    /// Does what a client asks for.
    pub async fn serve(&self, ask: Ask) -> Told {
        match ask {
            Ask::Write(write) => self.write(write).await,
            Ask::Read(name) => self.read(&name).await,
            Ask::Operate(order) => self.operate(order).await,
            Ask::Host(ask) => Told::Host(self.host(ask).await.unwrap_or(HostTold::Elsewhere)),
        }
    }

    async fn write(&self, write: Write) -> Told {
        // A window that is not at hand here is, in a moment or elsewhere.
        let Ok(body) = self.body(&write.wish) else { return Told::Unknown };
        if self.planted == Planted::DedupeBeforeWrite
            && let Some(noted) = self.note(write.request, &body)
        {
            return Told::Done(noted);
        }
        let request = match self.planted {
            Planted::RetryAsNew if write.is_again => new_request(self.clock.now()),
            _ => write.request,
        };
        let command = Command::of_cluster(request, self.clock.now(), body);
        match self.proposer.propose(command).await {
            Ok(accepted) => Told::Done(accepted),
            Err(ProposeError::Refused(refusal)) => Told::Refused(refusal),
            Err(ProposeError::Unfit(_)) => Told::Declined,
            Err(_) => Told::Unknown,
        }
    }

    /// The planted bug: the answer to a request that was begun before.
    fn note(&self, request: RequestId, body: &Body) -> Option<Accepted> {
        let accepted = match body {
            Body::CreateVm(create) => Accepted::Vm(create.vm),
            Body::DestroyVm { vm } => Accepted::Vm(*vm),
            _ => Accepted::Nothing,
        };
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(request, accepted)
    }

    fn body(&self, wish: &Wish) -> Result<Body, LedgerError> {
        Ok(match wish {
            Wish::Correct(entry, quantity) => {
                let (reason, actor) = ("a simulation".to_owned(), "client".to_owned());
                let (entry, quantity, original) =
                    (*entry, *quantity, self.ledger.sealed_entry(*entry)?);
                Body::CorrectUsage(CorrectUsage { entry, quantity, reason, actor, original })
            }
            Wish::Create(name) => {
                let spec = spec(name.clone());
                let machine = Wanted::without_network(&spec);
                let placement = self.view.local(|fleet| planner::place(fleet, machine));
                let vm = VmId(new_uuid(self.clock.now()));
                let requested_node = None;
                Body::CreateVm(CreateVm { vm, spec, requested_node, placement, start: true })
            }
            Wish::Destroy(vm) => Body::DestroyVm { vm: *vm },
            Wish::Start(vm) => Body::StartVm { vm: *vm },
            Wish::Stop(vm) => Body::StopVm { vm: *vm, force: true },
            Wish::Migrate(vm, target) => Body::MigrateVm {
                migration: MigrationId(new_uuid(self.clock.now())),
                vm: *vm,
                target: target.clone(),
                mode: MigrationMode::Live,
                options: MigrationOptions::default(),
            },
            Wish::Limit(limit) => {
                Body::ChangeSettings(SettingsChange { migrations_per_node: Some(*limit) })
            }
        })
    }

    /// Changes the members.
    async fn operate(&self, order: Order) -> Told {
        let call = match order {
            Order::Admit { request, machine } => {
                if let Some(left) = self.one_that_left() {
                    return Told::Admitted(left.0);
                }
                Call::Admit { request, facts: facts_of(machine) }
            }
            Order::Remove { request, member } => {
                Call::Remove { request, origin: Origin::Cluster, member: MemberId(member) }
            }
        };
        let leaving = match &call {
            Call::Remove { member, .. } => Some(*member),
            _ => None,
        };
        match self.leader.call(call).await {
            Ok(Answer::Admitted { member, .. }) => Told::Admitted(member.0),
            Ok(Answer::Done) => Told::Left,
            Err(LeaderError::Unfit(_)) => Told::Declined,
            // It was asked before, and nobody remembers who asked.
            Err(LeaderError::NotPossible(_))
                if leaving.is_some_and(|member| self.has_left(member)) =>
            {
                Told::Left
            }
            Ok(_) | Err(_) => Told::Unknown,
        }
    }

    /// The planted bug: an id that looks as if it were free.
    fn one_that_left(&self) -> Option<MemberId> {
        let is_planted = self.planted == Planted::IdGivenAgain;
        (1..100).map(MemberId).find(|id| is_planted && self.has_left(*id))
    }

    fn has_left(&self, member: MemberId) -> bool {
        self.view.local(|fleet| fleet.member(member).is_some_and(MemberRecord::has_left))
    }

    /// Nothing if another member should be asked.
    async fn host(&self, ask: HostAsk) -> Option<HostTold> {
        match ask {
            HostAsk::Hello { node, machines } => {
                let session = SessionId(new_uuid(self.clock.now()).as_u64_pair().1);
                let open = OpenSession { node, session, facts: facts(), machines };
                self.propose(Body::OpenSession(open)).await.map(|_| HostTold::Welcome(session))
            }
            HostAsk::Turn(turn) => self.turn(turn).await,
        }
    }

    async fn turn(&self, turn: Turn) -> Option<HostTold> {
        let Turn { node, session, first_sequence, reports, usage } = turn;
        let sequence = if reports.is_empty() {
            first_sequence - 1
        } else {
            let node = node.clone();
            let batch = SessionReports { node, session, first_sequence, reports };
            match self.propose(Body::Reports(vec![batch])).await? {
                Accepted::Sequences(sequences) => sequences.first().copied()?,
                _ => return None,
            }
        };
        let outcomes = if usage.is_empty() {
            Some(Vec::new())
        } else {
            let body = Body::PostUsage { node: node.clone(), records: usage };
            match self.propose(body).await? {
                Accepted::Usage(outcomes) => Some(outcomes),
                _ => return None,
            }
        };
        // As this member has them: one that was replaced and does not know it has old ones.
        let effects = self.view.local(|fleet| fleet.effects_of(&node).cloned().collect());
        Some(HostTold::Turn { sequence, outcomes, effects })
    }

    /// At this member's own desk, as the leader does for its agents.
    async fn propose(&self, body: Body) -> Option<Accepted> {
        let now = self.clock.now();
        let command = Command::of_cluster(new_request(now), now, body);
        self.desk.propose(command).await.ok()?.ok()
    }

    async fn read(&self, name: &VmName) -> Told {
        let look = |fleet: &Fleet| Seen {
            revision: fleet.revision().0,
            vm: fleet.vm_named(name).map(|vm| vm.id),
            limit: fleet.settings().migrations_per_node,
        };
        if self.planted == Planted::StaleRead {
            return Told::Seen(self.view.local(look));
        }
        self.view.read(look).await.map_or(Told::Unknown, Told::Seen)
    }
}

/// Room for 64 machines.
fn facts() -> NodeFacts {
    NodeFacts {
        capacity: NodeCapacity { memory_bytes: 64 << 30, cpus: 64, disk_bytes: 64 << 30 },
        labels: Labels::new(),
        migration_address: "10.0.0.1:7410".to_owned(),
        agent_version: "0.1.0".to_owned(),
        qemu_version: "10.0.2".to_owned(),
        accelerator: Accelerator::Tcg,
        accelerator_reason: "a simulation".to_owned(),
        has_swtpm: false,
    }
}

/// 1 GiB, 1 CPU, a 1 GiB disk.
fn spec(name: VmName) -> VmSpec {
    VmSpec {
        name,
        project: ProjectName::default(),
        memory_bytes: 1 << 30,
        cpus: 1,
        disks: vec![DiskSpec {
            size_bytes: 1 << 30,
            image: String::new(),
            format: DiskFormat::Raw,
        }],
        boot: Boot::Disk,
        network: Network::User,
        labels: Labels::new(),
        node_selector: Labels::new(),
        enable_tpm: false,
    }
}
