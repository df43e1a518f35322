//! A migration that starts over, because this agent was restarted or the target's was: what was begun is undone, the guest
//! goes on, and everything is offered anew. The target says then what it has of memory and disks.

use novacron_protocol::migration::MigrationMode;
use novacron_protocol::pages::PageTable;
use novacron_protocol::session::message::{Digests, Offer};
use novacron_protocol::session::source::SourceEvent;
use novacron_transport::CloseCode;
use tokio::task::JoinSet;

use super::begin::{choose_form, course};
use super::gate::Gate;
use super::offer::make_offer;
use super::progress::{DiskTotals, Meter};
use super::steering::Steering;
use super::warm::Warm;
use super::{Run, Stuck, qemu};
use crate::migrate::cache::{Image, ImageOrigin, Shadow};
use crate::migrate::memory::MemoryTotals;
use crate::migrate::relay::Outlets;
use crate::qmp::Qmp;
use crate::reason::reason;
use crate::sys::PAGE_BYTES;

/// What earlier attempts of this agent at this migration have sent.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) memory: MemoryTotals,
    pub(super) disks: DiskTotals,
}

impl Run {
    pub(super) async fn start_over(&mut self, restarts: u32) -> Result<(), Stuck> {
        if let Some(connection) = self.dialogue.cut() {
            connection.close(CloseCode::Done, "it starts over");
        }
        // First of all: this agent may die of what follows, and with it every other migration is interrupted.
        if let Some(guest) = &mut self.guest {
            guest.count_restart(restarts).await.map_err(|error| Stuck(reason(&error)))?;
        }
        match self.try_start_over().await {
            Ok(offer) => self.handle(SourceEvent::StartedOver(Box::new(offer))),
            Err(reason) => self.fail(reason),
        }
        Ok(())
    }

    async fn try_start_over(&mut self) -> Result<Offer, String> {
        let guest = self.guest.as_ref().ok_or("the machine is gone")?;
        if guest.role().is_shut_down || self.warm.is_shutting_down() {
            return Err("an agent was restarted when the guest had been told to shut down".into());
        }
        if self.mode != MigrationMode::Cold && guest.qmp().is_none() {
            return Err("the guest's QEMU does not answer".into());
        }
        self.undo().await;
        let guest = self.guest.as_ref().ok_or("the machine is gone")?;
        guest.go_on().await.map_err(|error| reason(&error))?;
        self.forget();
        self.offer_anew()
    }

    /// Undoes what was begun in QEMU, in an order in which nothing can wait for anything else: QEMU's sockets first, those
    /// of its mirrors too.
    pub(super) async fn undo(&mut self) {
        self.account.resume();
        self.count();
        self.outlets.end();
        self.earlier = Earlier { memory: self.memory_totals(), disks: self.disk_counters() };
        let (outgoing, disks) = (self.outgoing.take(), self.disks.take());
        // A QEMU that waits for a page or a block to be taken hears no command.
        if let Some(outgoing) = &outgoing {
            outgoing.close();
        }
        if let Some(disks) = &disks {
            disks.close();
        }
        if self.mode == MigrationMode::Live
            && let Some(qmp) = self.qmp()
            && let Err(error) = qemu::cancel_memory(&qmp).await
        {
            tracing::warn!(error = reason(&error), "QEMU's migration cannot be ended");
        }
        if let Some(disks) = disks {
            disks.abandon().await;
        }
    }

    /// Everything that was about the attempt that is undone.
    fn forget(&mut self) {
        self.steps = JoinSet::new();
        self.outlets = Outlets::default();
        self.memory_events = None;
        self.contents.clear();
        self.missing_files.clear();
        self.held_pages = None;
        self.bytes_disk_at_stop = None;
        self.warm = Warm::default();
        self.log = None;
        self.digests = Digests::default();
        self.base = None;
        self.catalogue = None;
        self.progress = Meter::default();
        // What QEMU has said of the migration that was cancelled is not about the next one.
        self.events = self.guest.as_ref().and_then(|guest| guest.qmp()).map(Qmp::events);
    }

    fn offer_anew(&mut self) -> Result<Offer, String> {
        let guest = self.guest.as_ref().ok_or("the machine is gone")?;
        let version = self.context.qemu_version();
        self.hash_seed = rand::random();
        self.form = choose_form(&self.context, guest, version, self.hash_seed);
        self.steering = Steering::new(course(&self.context, guest));
        self.gate = Gate::default();
        let offer = make_offer(&self.context, guest, &self.form, version, self.hash_seed);
        self.source_run = offer.source_run;
        Ok(offer)
    }

    /// The target's memory does not begin as zeros.
    pub(super) fn target_holds_pages(&mut self, piece: &[u8]) {
        if let Err(reason) = self.try_target_holds_pages(piece) {
            self.fail(reason);
        }
    }

    fn try_target_holds_pages(&mut self, piece: &[u8]) -> Result<(), String> {
        if self.outgoing.is_some() {
            return Err("the target tells what its memory holds when it is being sent".into());
        }
        let table = match &mut self.held_pages {
            Some(table) => table,
            none => none.insert(PageTable::new(self.facts.pages()?)),
        };
        table.begin_with(piece).map_err(|error| reason(&error))
    }

    /// What the target's memory begins with: what it says that it holds, or the image that both have.
    pub(super) fn take_base(&mut self) -> Option<Image> {
        let Some(table) = self.held_pages.take() else { return self.base.take() };
        let origin = ImageOrigin { vm: self.facts.vm, migration: self.migration() };
        let pages = table.pages();
        let held_bytes = pages as u64 * PAGE_BYTES as u64;
        self.context.images.make_room(held_bytes);
        let shadow = Shadow::new(pages, self.context.images.budget());
        Some(Image { origin, hash_seed: self.hash_seed, table, shadow })
    }
}
