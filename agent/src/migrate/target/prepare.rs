//! From the offer to a QEMU that waits for disks and memory.

use std::sync::Arc;

use novacron_protocol::session::message::{FileOffer, MemoryOffer, Offer, TargetMessage};
use novacron_protocol::session::target::TargetEvent;
use tokio::sync::mpsc;

use super::offer::Announced;
use super::step::Step;
use super::{Run, offer};
use crate::disk::{DiskEvent, DisksPlan, IncomingDisks};
use crate::migrate::cache::{Image, ImageOrigin};
use crate::migrate::library::{Circle, Shelf};
use crate::reason::reason;
use crate::vm::{FileHash, Processor, Receiving};

impl Run {
    pub(super) async fn take_offer(&mut self, offer: Offer) {
        let (Some(guest), Some(connection)) = (&self.guest, self.dialogue.connection()) else {
            return;
        };
        let announced = Announced {
            vm: guest.vm(),
            migration: guest.migration(),
            generation: guest.generation(),
            source: &guest.role().source,
            mode: guest.role().mode,
            spec: guest.spec(),
        };
        let sender = connection.peer().name.as_str().to_owned();
        let minor = match offer::check(&offer, announced, &sender) {
            Ok(minor) => minor,
            Err(refusal) => return self.fail(refusal.to_string()),
        };
        let store = self.context.machines.files();
        let lacking = |file: &&FileOffer| !store.has(FileHash(file.hash));
        self.missing_files = offer.files.iter().filter(lacking).cloned().collect();
        let missing_files = self.missing_files.iter().map(|file| file.hash).collect();
        self.base = if self.is_anew { None } else { self.find_base(&offer) };
        self.shelf = self.find_shelf(&offer);
        let shelf = self.shelf.as_ref().map(|shelf| shelf.offer());
        self.offer = Some(offer);
        let has_base = self.base.is_some();
        // Pages may come as soon as the offer is taken, if the files are here that they may refer to, and the memory is
        // empty.
        if self.missing_files.is_empty()
            && !self.is_anew
            && let Err(reason) = self.begin_memory()
        {
            return self.fail(reason);
        }
        self.send(TargetMessage::Taken { minor, missing_files, has_base, shelf }).await;
        if self.missing_files.is_empty() {
            self.prepare();
        }
    }

    /// What this host remembers of the machine's memory, if it is what the source thinks.
    pub(super) fn find_base(&self, offer: &Offer) -> Option<Image> {
        let origin = ImageOrigin { vm: offer.vm, migration: offer.base? };
        let image = self.context.images.take_if(origin);
        image.filter(|image| image.hash_seed == offer.hash_seed)
    }

    /// Where pages of the machine may be kept, and taken from: by whose it is, as the coordinator says.
    fn find_shelf(&self, offer: &Offer) -> Option<Arc<Shelf>> {
        let guest = self.guest.as_ref()?;
        if !matches!(offer.memory, MemoryOffer::Pages { .. }) {
            return None;
        }
        let (source_run, tenant) = (offer.source_run, guest.spec().tenant());
        let circle = Circle { source: self.source.clone(), source_run, tenant };
        self.context.shelves.open(&circle, rand::random())
    }

    /// Everything that QEMU needs is here: has it started. Pages arrive meanwhile.
    pub(super) fn prepare(&mut self) {
        let (Some(guest), Some(offer)) = (&mut self.guest, &self.offer) else {
            return self.fail("there is no offer".to_owned());
        };
        let hardware = offer::hardware(offer, guest.spec());
        let processor = Processor::of_model(&offer.cpu_model);
        let prepared = guest.prepare(hardware, processor);
        self.steps.spawn(async move {
            Step::Started(prepared.await.map(Box::new).map_err(|error| reason(&error)))
        });
    }

    /// QEMU waits: opens it for disks, and then for memory.
    pub(super) fn started(&mut self, receiving: Receiving) {
        let (Some(guest), Some(offer)) = (&self.guest, &self.offer) else { return };
        let plan = DisksPlan {
            run_directory: guest.directories().run.clone(),
            disks: offer.disks.clone(),
            held: receiving.held.clone(),
            hash_seed: offer.hash_seed,
        };
        let qmp = receiving.qmp.clone();
        self.receiving = Some(receiving);
        self.steps.spawn(async move {
            let begun = IncomingDisks::begin(&qmp, plan).await;
            Step::DisksBegun(begun.map_err(|error| reason(&error)))
        });
    }

    /// The disks can be written, and it is known what they hold.
    pub(super) async fn disks_begun(
        &mut self,
        disks: IncomingDisks,
        events: mpsc::Receiver<DiskEvent>,
    ) {
        for (disk, piece) in disks.pieces().collect::<Vec<_>>() {
            self.send(TargetMessage::Holds { disk, piece }).await;
        }
        if self.offer.as_ref().is_some_and(|offer| offer.disks.is_empty()) {
            self.loading.disks = Some(Vec::new());
        } else {
            self.disks = Some(disks);
            self.disk_events = Some(events);
        }
        if let Some(hash_seed) = self.seed_of_held_pages() {
            return self.look_at_memory(hash_seed).unwrap_or_else(|reason| self.fail(reason));
        }
        match self.open_memory().await {
            Ok(()) => self.handle(TargetEvent::Prepared),
            Err(reason) => self.fail(reason),
        }
    }
}
