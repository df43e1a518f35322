//! How the task of a source begins: of a machine that was lent for a migration, or that an earlier run left behind.

use std::sync::Arc;

use novacron_protocol::qemu::{QemuVersion, StreamLayout, StreamLimits};
use novacron_protocol::session::handover::SourceRecord;
use novacron_protocol::session::message::Digests;
use novacron_protocol::session::source::{Source, SourceLimits};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::gate::Gate;
use super::memo::{self, Memo};
use super::offer::make_offer;
use super::pilot::Course;
use super::restart::Earlier;
use super::steering::Steering;
use super::warm::Warm;
use super::{Run, progress};
use crate::clock;
use crate::metrics::Tally;
use crate::migrate::account::Account;
use crate::migrate::cache::Image;
use crate::migrate::context::{Context, SourceCommand};
use crate::migrate::control::Dialogue;
use crate::migrate::memory::{OutgoingForm, PagesPlan};
use crate::migrate::relay::Outlets;
use crate::qmp::Qmp;
use crate::vm::SourceGuest;

/// What the task has to know of its offer.
struct Offered {
    form: OutgoingForm,
    hash_seed: u64,
    base: Option<Image>,
    source_run: u64,
}

/// Starts the task for a machine that was lent for a new migration.
pub(in crate::migrate) fn begin(
    context: &Arc<Context>,
    guest: SourceGuest,
    commands: mpsc::Receiver<SourceCommand>,
) {
    let version = context.qemu_version();
    let base = context.images.take(guest.facts().vm);
    let hash_seed = base.as_ref().map_or_else(rand::random, |base| base.hash_seed);
    let form = choose_form(context, &guest, version, hash_seed);
    let mut offer = make_offer(context, &guest, &form, version, hash_seed);
    offer.base = base.as_ref().map(|base| base.origin.migration);
    let offered = Offered { form, hash_seed, base, source_run: offer.source_run };
    let session = Source::begin(offer, limits(context));
    spawn(context, guest, session, offered, commands);
}

/// Starts the task for a machine whose migration an earlier run of the agent left behind.
pub(in crate::migrate) fn resume(context: &Arc<Context>, guest: SourceGuest) {
    let (vm, role) = (guest.facts().vm, guest.role());
    let (decision, restarts) = (role.decision, role.restarts);
    let session = Source::resume(vm, role.migration, decision, restarts, limits(context));
    let commands = context.register_source(role.migration);
    let nothing = Offered { form: OutgoingForm::Tunnel, hash_seed: 0, base: None, source_run: 0 };
    spawn(context, guest, session, nothing, commands);
}

fn limits(context: &Context) -> SourceLimits {
    SourceLimits {
        switchover_ms_max: context.settings.switchover_ms_max,
        link_patience_ms: context.settings.link_patience_s * 1000,
        ..SourceLimits::default()
    }
}

/// What was asked of this migration, or else of all of this agent.
pub(super) fn course(context: &Context, guest: &SourceGuest) -> Course {
    let options = guest.role().options;
    Course {
        downtime_limit_ms: options.downtime_limit_ms.unwrap_or(context.settings.downtime_limit_ms),
        is_throttling: options.auto_converge,
    }
}

pub(super) fn choose_form(
    context: &Context,
    guest: &SourceGuest,
    version: Option<QemuVersion>,
    hash_seed: u64,
) -> OutgoingForm {
    let known = version.map(StreamLayout::of) == Some(StreamLayout::Known);
    if !known || context.settings.force_tunnel {
        return OutgoingForm::Tunnel;
    }
    OutgoingForm::Pages(PagesPlan {
        channels: context.settings.channels,
        hash_seed,
        compression_level: context.settings.compression_level,
        processor_percent_max: context.settings.processor_percent.into(),
        limits: StreamLimits::for_guest_memory(guest.facts().spec.memory_bytes),
    })
}

fn spawn(
    context: &Arc<Context>,
    guest: SourceGuest,
    session: Source,
    offered: Offered,
    commands: mpsc::Receiver<SourceCommand>,
) {
    let Offered { form, hash_seed, base, source_run } = offered;
    let migration = guest.role().migration;
    let span = tracing::info_span!("migration", %migration, vm = %guest.facts().vm, end = "source");
    let earlier_run = Memo::of_earlier_run(&guest.role().memo);
    let elapsed = earlier_run.as_ref().map(|memo| memo.elapsed(clock::since_boot_us()));
    let remembered =
        matches!(guest.role().decision, SourceRecord::Released | SourceRecord::Confirmed)
            .then(|| Memo::read(&guest.role().memo));
    let run = Run {
        context: Arc::clone(context),
        facts: guest.facts().clone(),
        target: guest.role().target.clone(),
        mode: guest.role().mode,
        events: guest.qmp().map(Qmp::events),
        session,
        form,
        account: Account::begin_before(elapsed.unwrap_or_default()),
        remembered,
        carried: earlier_run.map_or_else(memo::empty, |memo| memo.account().clone()),
        remembered_at: None,
        dialogue: Dialogue::default(),
        outlets: Outlets::default(),
        outgoing: None,
        memory_events: None,
        disks: None,
        contents: Vec::new(),
        bytes_disk_at_stop: None,
        warm: Warm::default(),
        log: None,
        digests: Digests::default(),
        missing_files: Vec::new(),
        file_bytes: 0,
        hash_seed,
        base,
        source_run,
        catalogue: None,
        held_pages: None,
        earlier: Earlier::default(),
        progress: progress::Meter::default(),
        tally: Tally::begin(Arc::clone(&context.metrics), migration),
        steering: Steering::new(course(context, &guest)),
        gate: Gate::default(),
        steps: JoinSet::new(),
        waiting: Vec::new(),
        cancelling: Vec::new(),
        outcome: None,
        guest: Some(guest),
    };
    context.tasks.spawn(run.run(commands).instrument(span));
}
