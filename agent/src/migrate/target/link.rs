//! The link to the source: it connects, speaks, is lost, and comes back.

use std::time::Instant;

use novacron_protocol::session::message::{SourceMessage, TargetMessage};
use novacron_protocol::session::target::TargetEvent;
use novacron_transport::CloseCode;

use super::Run;
use crate::metrics::Side;
use crate::migrate::control::{Control, ControlError, SAY_PATIENCE};
use crate::migrate::listener;
use crate::reason::reason;

impl Run {
    pub(super) async fn connected(&mut self, control: Control, message: SourceMessage) {
        let is_source = control.connection().peer().name.as_str() == self.source.as_str();
        match message {
            _ if !is_source => {
                listener::dismiss(control, "another node is the source of this migration");
            }
            SourceMessage::Offer(offer) if self.offer.is_none() && !self.is_anew => {
                self.dialogue.begin(control, 1);
                self.take_offer(offer).await;
            }
            SourceMessage::Offer(offer) if self.session.may_be_offered_anew() => {
                self.begin_anew(control, offer).await;
            }
            SourceMessage::Resume { .. } if self.is_anew && self.offer.is_none() => {
                Self::say_forgotten(control);
            }
            SourceMessage::Resume { heard, .. } if self.offer.is_some() => {
                match self.dialogue.can_go_on(heard) {
                    Ok(()) => self.resume_link(control, heard).await,
                    Err(error) => listener::dismiss(control, &reason(&error)),
                }
            }
            SourceMessage::Ask { .. } => {
                self.dialogue.begin(control, 1);
                self.handle(TargetEvent::LinkBack);
                self.handle(TargetEvent::Message(message));
            }
            _ => listener::dismiss(control, "this migration has a source already"),
        }
    }

    /// The source is back: it is told what was heard and taken, and goes on from there.
    pub(super) async fn resume_link(&mut self, mut control: Control, they_heard: u64) {
        if let Some(connection) = self.dialogue.cut() {
            // The source has given it up, whether this side has noticed or not.
            connection.close(CloseCode::Done, "another connection takes its place");
        }
        let streams = self.inlets.next_connection();
        let resumed = TargetMessage::Resumed { heard: self.dialogue.heard(), streams };
        let resumed = async {
            control.say(&resumed).await?;
            self.dialogue.go_on(control, they_heard).await
        };
        match resumed.await {
            Ok(()) => self.handle(TargetEvent::LinkBack),
            Err(error) => self.link_lost(&reason(&error)),
        }
    }

    /// What was processed need not be kept by the source.
    pub(super) async fn tell_news(&mut self) {
        if self.dialogue.is_linked()
            && let Some(counts) = self.inlets.processed_news()
        {
            self.send(TargetMessage::Processed(counts)).await;
        }
    }

    /// How busy this host is, for whoever watches the migration.
    pub(super) async fn tell_load(&mut self) {
        let load = self.load.permille();
        if self.dialogue.is_linked()
            && let Some(processors_permille) = load
        {
            self.send(TargetMessage::HostLoad { processors_permille }).await;
        }
    }

    /// All that the target has, which can be much, is said before it is prepared, and kept until the source is known to
    /// have heard that.
    pub(super) async fn send(&mut self, message: TargetMessage) {
        let ends_telling = message == TargetMessage::Prepared;
        self.say(message).await;
        if ends_telling {
            self.dialogue.mark();
        }
    }

    async fn say(&mut self, message: TargetMessage) {
        match tokio::time::timeout(SAY_PATIENCE, self.dialogue.say(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.link_lost(&reason(&error)),
            Err(_) => self.link_lost("it takes no messages"),
        }
    }

    pub(super) fn heard(&mut self, heard: Result<SourceMessage, ControlError>) {
        let message = match heard {
            Ok(message) => message,
            Err(error) => return self.link_lost(&reason(&error)),
        };
        if message.follows_prepared() {
            self.dialogue.forget_marked();
        }
        if message == SourceMessage::DisksSynchronised
            && let Some(disks) = &self.disks
        {
            disks.make_durable();
        }
        if message == SourceMessage::Go {
            self.go_at.get_or_insert_with(Instant::now);
            if self.receiving.as_ref().is_some_and(|receiving| receiving.qmp.is_closed()) {
                self.qemu_ended();
            }
        }
        self.handle(TargetEvent::Message(message));
    }

    pub(super) fn link_lost(&mut self, reason: &str) {
        tracing::info!(reason, "the link to the source ended");
        if let Some(connection) = self.dialogue.cut() {
            self.context.metrics.link_interrupted(Side::Target);
            connection.close(CloseCode::Done, "given up");
        }
        self.handle(TargetEvent::LinkLost);
    }
}
