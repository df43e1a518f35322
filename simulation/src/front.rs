//! What a member does for clients: as its API does, without HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use novacron_coordinator::clock::{Clock, new_request, new_uuid};
use novacron_coordinator::planner;
use novacron_coordinator::propose::{ProposeError, Proposer};
use novacron_coordinator::state::command::CreateVm;
use novacron_coordinator::state::{Accepted, Body, Command, Fleet};
use novacron_coordinator::view::View;
use novacron_protocol::api::SettingsChange;
use novacron_protocol::ids::{ProjectName, RequestId, VmId, VmName};
use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, Labels, Network, VmSpec};

use crate::client::{Ask, Seen, Told, Wish, Write};
use crate::planted::Planted;

/// The front of one process. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    proposer: Proposer,
    view: View,
    clock: Clock,
    planted: Planted,
    /// Only for a planted bug: requests that were begun here.
    begun: Arc<Mutex<BTreeMap<RequestId, Accepted>>>,
}

impl Front {
    /// Of a process that starts.
    pub fn new(proposer: Proposer, view: View, clock: Clock, planted: Planted) -> Self {
        Self { proposer, view, clock, planted, begun: Arc::default() }
    }

    /// Does what a client asks for.
    pub async fn serve(&self, ask: Ask) -> Told {
        match ask {
            Ask::Write(write) => self.write(write).await,
            Ask::Read(name) => self.read(&name).await,
        }
    }

    async fn write(&self, write: Write) -> Told {
        let body = self.body(&write.wish);
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

    fn body(&self, wish: &Wish) -> Body {
        match wish {
            Wish::Create(name) => {
                let spec = spec(name.clone());
                let placement = self.view.local(|fleet| planner::place(fleet, &spec));
                let vm = VmId(new_uuid(self.clock.now()));
                let requested_node = None;
                Body::CreateVm(CreateVm { vm, spec, requested_node, placement, start: true })
            }
            Wish::Destroy(vm) => Body::DestroyVm { vm: *vm },
            Wish::Limit(limit) => {
                Body::ChangeSettings(SettingsChange { migrations_per_node: Some(*limit) })
            }
        }
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
