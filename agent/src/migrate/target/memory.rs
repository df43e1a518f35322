//! Memory on its way in: from when pages can come, from when the guest's QEMU can be fed, and what the threads say.

use std::path::Path;
use std::sync::Arc;

use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::message::{MemoryOffer, Offer};
use novacron_protocol::session::target::TargetEvent;

use super::{Run, offer};
use crate::migrate::files::boot_files;
use crate::migrate::memory::{Beginning, Incoming, IncomingEvent, IncomingForm, IncomingPlan};
use crate::qmp::{Capability, MigrateParameters};
use crate::reason::reason;
use crate::vm::Receiving;

/// Name of the socket at which QEMU waits for its stream.
const SOCKET_NAME: &str = "in.sock";

impl Run {
    pub(super) async fn open_memory(&mut self) -> Result<(), String> {
        let receiving = self.receiving.clone().ok_or("the target's QEMU is gone")?;
        let run = self.run_directory()?;
        if self.incoming.is_none() {
            self.begin_memory()?;
        }
        self.feed_memory(&receiving, &run).await
    }

    /// The guest's QEMU is there: what is not memory can be given to it.
    pub(super) async fn feed_memory(
        &mut self,
        receiving: &Receiving,
        run: &Path,
    ) -> Result<(), String> {
        let Some(incoming) = &self.incoming else { return Ok(()) };
        let capabilities = [(Capability::ReturnPath, true), (Capability::Events, true)];
        let qmp = &receiving.qmp;
        qmp.set_capabilities(&capabilities).await.map_err(|error| reason(&error))?;
        // By itself it would call the network several times when it has loaded the guest, which may yet go back to the
        // source; it is told to announce the guest when that runs. Never not at all: then QEMU takes the timer of a
        // network card's announcements away, and does without it when the guest resets the card, which ends QEMU (seen
        // in 10.0). A source that takes its guest back announces it, too.
        let brief = MigrateParameters { announce_rounds: Some(1), ..Default::default() };
        qmp.set_migrate_parameters(&brief).await.map_err(|error| reason(&error))?;
        qmp.migrate_incoming(&run.join(SOCKET_NAME)).await.map_err(|error| reason(&error))?;
        incoming.feed();
        Ok(())
    }

    /// From now on pages can come.
    pub(super) fn begin_memory(&mut self) -> Result<(), String> {
        let beginning = self.base.take().map_or(Beginning::Zeros, Beginning::Image);
        self.begin_memory_with(beginning)
    }

    pub(super) fn begin_memory_with(&mut self, beginning: Beginning) -> Result<(), String> {
        let (Some(guest), Some(offer)) = (&self.guest, &self.offer) else {
            return Err("there is no offer".to_owned());
        };
        let Some(form) = incoming_form(offer) else {
            self.loading.memory = true;
            return Ok(());
        };
        let plan = IncomingPlan {
            form,
            qemu_socket: guest.directories().run.join(SOCKET_NAME),
            boot_files: boot_files(&self.context, &offer::hardware(offer, guest.spec()).boot),
            beginning,
            images: self.context.images.clone(),
            shelf: self.shelf.clone(),
        };
        let receiving = self.receiving.as_ref().map(|receiving| Arc::clone(&receiving.memory));
        let memory = receiving.or_else(|| guest.memory()).ok_or("the machine's memory is gone")?;
        let begun = Incoming::begin(plan, memory);
        let (incoming, events) = begun.map_err(|error| reason(&error))?;
        self.incoming = Some(incoming);
        self.memory_events = Some(events);
        Ok(())
    }

    pub(super) fn memory_event(&mut self, event: Option<IncomingEvent>) {
        match event {
            Some(IncomingEvent::ReturnPath(bytes)) => self.handle(TargetEvent::ReturnPath(bytes)),
            Some(IncomingEvent::Loaded) => {
                self.loading.memory = true;
                self.check_loaded();
            }
            Some(IncomingEvent::Failed { reason }) => self.fail(reason),
            None => self.memory_events = None,
        }
    }
}

pub(super) fn incoming_form(offer: &Offer) -> Option<IncomingForm> {
    match (&offer.memory, offer.mode) {
        (_, MigrationMode::Cold | MigrationMode::Warm) | (MemoryOffer::None, _) => None,
        (MemoryOffer::Tunnel, _) => Some(IncomingForm::Tunnel),
        (MemoryOffer::Pages { lanes }, _) => {
            Some(IncomingForm::Pages { lanes: *lanes, hash_seed: offer.hash_seed })
        }
    }
}
