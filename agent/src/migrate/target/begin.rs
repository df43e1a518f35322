//! How the task of a target begins: of a machine that was announced, or that an earlier run left undecided.

use std::sync::Arc;

use novacron_protocol::effect::Handover;
use novacron_protocol::session::target::{Target, TargetEvent, TargetLimits};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::Run;
use super::load::Loading;
use crate::host::ProcessorLoad;
use crate::migrate::context::{COMMANDS_MAX, Context};
use crate::migrate::control::Dialogue;
use crate::migrate::relay::Inlets;
use crate::vm::IncomingGuest;

/// How much longer than its source a target waits for the link to come back, in milliseconds.
const LINK_GRACE_MS: u64 = 5000;

/// Starts the task for a machine that was announced.
pub(in crate::migrate) fn begin(context: &Arc<Context>, guest: IncomingGuest) {
    spawn(context, guest, Target::begin(limits(context)), false);
}

/// Goes on with what an earlier run of the agent left undecided: its source may offer everything anew. What cannot be
/// offered anew, or was being refused, is refused.
pub(in crate::migrate) fn resume(context: &Arc<Context>, guest: IncomingGuest) {
    let mut session = Target::resume(limits(context), context.now_ms());
    if !guest.may_be_offered_anew() {
        let reason = "the target's agent was restarted, and has nothing of the machine".to_owned();
        session.handle(TargetEvent::Failed { reason }, context.now_ms());
    }
    spawn(context, guest, session, true);
}

fn limits(context: &Context) -> TargetLimits {
    let patience_ms = context.settings.link_patience_s * 1000;
    TargetLimits {
        // The source decides; a target that gave up first would spoil its last attempt.
        link_patience_ms: if patience_ms == 0 { 0 } else { patience_ms + LINK_GRACE_MS },
        ..TargetLimits::default()
    }
}

fn spawn(context: &Arc<Context>, guest: IncomingGuest, session: Target, is_anew: bool) {
    let migration = guest.migration();
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    context.targets().insert(migration, sender);
    let span = tracing::info_span!("migration", %migration, vm = %guest.vm(), end = "target");
    let handover = Handover { migration, vm: guest.vm(), generation: guest.generation() };
    let run = Run {
        context: Arc::clone(context),
        source: guest.role().source.clone(),
        mode: guest.role().mode,
        guest: Some(guest),
        handover,
        session,
        dialogue: Dialogue::default(),
        inlets: Inlets::default(),
        offer: None,
        is_anew,
        missing_files: Vec::new(),
        base: None,
        shelf: None,
        receiving: None,
        search: None,
        incoming: None,
        memory_events: None,
        disks: None,
        disk_events: None,
        loading: Loading::default(),
        go_at: None,
        load: ProcessorLoad::default(),
        steps: JoinSet::new(),
        waiting: Vec::new(),
        outcome: None,
    };
    context.tasks.spawn(run.run(commands).instrument(span));
}
