//! Everything was sent: what has arrived of it.

use std::time::Instant;

use novacron_protocol::session::message::Digests;
use novacron_protocol::session::target::TargetEvent;

use super::step::Step;
use super::{Run, micros};
use crate::migrate::memory::Incoming;
use crate::reason::reason;

/// What has arrived since the source said that everything is sent.
#[derive(Debug, Default)]
pub(super) struct Loading {
    since: Option<Instant>,
    pub(super) memory: bool,
    pub(super) log: bool,
    pub(super) disks: Option<Vec<[u8; 16]>>,
}

impl Run {
    pub(super) fn load(&mut self) {
        self.loading.since = Some(Instant::now());
        self.finish_disks();
        self.check_loaded();
    }

    /// Waits for what is still in the disks' streams, once everything was sent and all of them have begun: streams are
    /// not ordered, and the word that everything was sent may overtake one.
    pub(super) fn finish_disks(&mut self) {
        let is_sent = self.loading.since.is_some();
        if let Some(mut disks) = self.disks.take_if(|disks| is_sent && disks.have_begun()) {
            self.steps.spawn(async move {
                Step::DisksFinished(disks.finish().await.map_err(|error| reason(&error)))
            });
        }
    }

    pub(super) fn check_loaded(&mut self) {
        let Loading { since: Some(since), memory: true, log: true, disks: Some(disks) } =
            &self.loading
        else {
            return;
        };
        let memory = self.incoming.as_ref().and_then(Incoming::digest);
        let digests = Digests { memory: memory.into_iter().collect(), disks: disks.clone() };
        let load_us = micros(since.elapsed());
        self.handle(TargetEvent::Loaded { digests, load_us });
    }
}
