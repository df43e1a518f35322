//! Everything offered anew, because the source's agent was restarted or this one was: what was begun is undone, what is in
//! the guest's memory and on its disks stays, and the source is told what that is.

use std::path::PathBuf;
use std::sync::Arc;

use novacron_protocol::pages::PageTable;
use novacron_protocol::session::message::{Offer, TargetMessage};
use novacron_protocol::session::target::TargetEvent;
use novacron_transport::CloseCode;
use tokio::task::JoinSet;

use super::Run;
use super::load::Loading;
use super::memory::incoming_form;
use super::step::Step;
use crate::migrate::control::Control;
use crate::migrate::listener;
use crate::migrate::memory::{Beginning, IncomingForm, PagesSearch};
use crate::migrate::relay::Inlets;
use crate::reason::reason;

impl Run {
    /// The source goes on where the link was lost, and this agent was restarted meanwhile: it has to begin anew.
    pub(super) fn say_forgotten(control: Control) {
        listener::answer_last(control, TargetMessage::Forgotten);
    }

    pub(super) async fn begin_anew(&mut self, control: Control, offer: Offer) {
        tracing::info!("the source offers everything anew");
        if let Some(connection) = self.dialogue.cut() {
            connection.close(CloseCode::Done, "another connection takes its place");
        }
        self.undo().await;
        self.is_anew = true;
        self.dialogue.begin(control, 1);
        self.handle(TargetEvent::OfferedAnew);
        self.take_offer(offer).await;
    }

    /// Once this returns, nothing of what was offered before writes to the guest's memory, but perhaps its QEMU, which ends
    /// when another takes its place.
    async fn undo(&mut self) {
        self.steps = JoinSet::new();
        self.inlets = Inlets::default();
        self.memory_events = None;
        if let Some(search) = self.search.take() {
            search.end().await;
        }
        if let Some(incoming) = self.incoming.take() {
            incoming.end().await;
        }
        self.disks = None;
        self.disk_events = None;
        self.receiving = None;
        self.loading = Loading::default();
        self.missing_files.clear();
        self.base = None;
        self.go_at = None;
    }

    /// The guest's new QEMU is there, and waits: what is in the memory is looked at, on a thread that may block.
    pub(super) fn look_at_memory(&mut self, hash_seed: u64) -> Result<(), String> {
        let receiving = self.receiving.as_ref().ok_or("the target's QEMU is gone")?;
        let (search, look) = PagesSearch::begin(Arc::clone(&receiving.memory), hash_seed);
        self.search = Some(search);
        self.steps.spawn_blocking(move || {
            Step::MemoryFound(look().map(Box::new).map_err(|error| reason(&error)))
        });
        Ok(())
    }

    /// What is in the memory is known: the source is told, and sends what differs.
    pub(super) async fn memory_found(&mut self, table: PageTable) {
        self.search = None;
        for piece in table.pieces() {
            self.send(TargetMessage::HoldsPages { piece }).await;
        }
        match self.begin_with_memory(table).await {
            Ok(()) => self.handle(TargetEvent::Prepared),
            Err(reason) => self.fail(reason),
        }
    }

    async fn begin_with_memory(&mut self, table: PageTable) -> Result<(), String> {
        let receiving = self.receiving.clone().ok_or("the target's QEMU is gone")?;
        self.begin_memory_with(Beginning::Found(table))?;
        let run = self.run_directory()?;
        self.feed_memory(&receiving, &run).await
    }

    /// Whether there is memory of which the source has to know what it holds; with the secret of its hashes.
    pub(super) fn seed_of_held_pages(&self) -> Option<u64> {
        let form = incoming_form(self.offer.as_ref().filter(|_| self.is_anew)?)?;
        match form {
            IncomingForm::Pages { hash_seed, .. } => Some(hash_seed),
            IncomingForm::Tunnel => None,
        }
    }

    pub(super) fn run_directory(&self) -> Result<PathBuf, String> {
        let guest = self.guest.as_ref().ok_or("the machine is gone")?;
        Ok(guest.directories().run.clone())
    }
}
