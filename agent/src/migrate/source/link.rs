//! The link to the target: made, spoken over, lost, and made again.

use std::net::SocketAddr;
use std::time::Duration;

use novacron_protocol::session::handover::Verdict;
use novacron_protocol::session::message::{ShelfOffer, SourceMessage, StreamHeader, TargetMessage};
use novacron_protocol::session::source::SourceEvent;
use novacron_transport::{CloseCode, ExpectedPeer, Role};

use super::Run;
use super::step::Step;
use crate::migrate::account::Mark;
use crate::migrate::control::{Control, ControlError, SAY_PATIENCE};
use crate::migrate::relay::Limit;
use crate::reason::reason;

impl Run {
    pub(super) fn connect(&mut self) {
        let Some(guest) = &self.guest else { return };
        let role = guest.role();
        let expected = ExpectedPeer::named(Role::Agent, role.target.clone().into());
        let (endpoint, address) = (self.context.endpoint.clone(), role.target_address.clone());
        let connected = async move {
            let address = resolve(&address).await?;
            let connection = endpoint.connect(address, &expected).await;
            let connection = connection.map_err(|error| reason(&error))?;
            Control::open(connection).await.map_err(|error| reason(&error))
        };
        if self.session.resumes_link() {
            let (vm, migration) = (self.facts.vm, self.migration());
            let resume = SourceMessage::Resume { vm, migration, heard: self.dialogue.heard() };
            self.steps.spawn(async move {
                let resumed = async {
                    let control = connected.await.map_err(ResumeFault::Away)?;
                    resume_with(control, &resume).await
                };
                Step::Resumed(resumed.await)
            });
        } else {
            self.steps.spawn(async move { Step::Connected(connected.await) });
        }
    }

    /// Both sides know what the other has heard and taken: the rest is said and sent again.
    pub(super) async fn resumed(&mut self, resumption: Resumption) {
        let Resumption { control, heard, streams } = resumption;
        if let Err(error) = self.outlets.attach(control.connection().clone(), &streams).await {
            return self.fail(reason(&error));
        }
        match self.dialogue.go_on(control, heard).await {
            Ok(()) => {
                self.send_files();
                self.handle(SourceEvent::Connected);
            }
            Err(error) => self.link_lost(reason(&error)),
        }
    }

    /// A target that does not even take a word is as good as gone: a guest that stands still cannot wait for it.
    pub(super) async fn send(&mut self, message: SourceMessage) {
        let patience = self.until_due().map_or(SAY_PATIENCE, |due| due.min(SAY_PATIENCE));
        match tokio::time::timeout(patience, self.dialogue.say(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.link_lost(reason(&error)),
            Err(_) => self.link_lost("it takes no messages".to_owned()),
        }
    }

    pub(super) fn heard(&mut self, heard: Result<TargetMessage, ControlError>) {
        match heard {
            Ok(message) => {
                match &message {
                    TargetMessage::Ready { .. } => self.reach(Mark::TargetLoaded),
                    // It says so after the guest was told to run. `Running` may be lost with the link.
                    TargetMessage::Running { .. } | TargetMessage::Verdict(Verdict::Accepted) => {
                        self.runs_there();
                    }
                    TargetMessage::Taken { has_base, shelf, .. } => {
                        self.target_has(*has_base, *shelf);
                    }
                    TargetMessage::Prepared => self.missing_files.clear(),
                    TargetMessage::Processed(counts) => return self.processed(counts),
                    TargetMessage::HostLoad { processors_permille } => {
                        return self.progress.target_load(Some(*processors_permille));
                    }
                    TargetMessage::Holds { disk, piece } => return self.target_holds(*disk, piece),
                    TargetMessage::HoldsPages { piece } => return self.target_holds_pages(piece),
                    _ => {}
                }
                self.handle(SourceEvent::Message(message));
            }
            Err(error) => self.link_lost(reason(&error)),
        }
    }

    /// What the target has already, of this machine and of others.
    fn target_has(&mut self, has_base: bool, shelf: Option<ShelfOffer>) {
        self.base = self.base.take().filter(|_| has_base);
        let catalogues = &self.context.catalogues;
        self.catalogue =
            shelf.and_then(|shelf| catalogues.open(self.source_run, &self.target, shelf));
    }

    pub(super) fn processed(&mut self, counts: &[(StreamHeader, u64)]) {
        if let Err(error) = self.outlets.processed(counts) {
            self.fail(reason(&error));
        }
        if let Some(outgoing) = &self.outgoing {
            outgoing.has_news();
        }
    }

    pub(super) fn link_lost(&mut self, reason: String) {
        tracing::info!(reason, "the link to the target is lost");
        self.outlets.detach();
        self.steering.release();
        self.progress.target_load(None);
        self.count();
        // This agent may be about to end.
        self.remember();
        if let Some(connection) = self.dialogue.cut() {
            self.count_interruption();
            // Whatever else travels on it is of no use any more, and threads may wait for it.
            connection.close(CloseCode::Done, "given up");
        }
        self.handle(SourceEvent::LinkLost { reason });
    }

    pub(super) fn bandwidth_limit(&self) -> Limit {
        let options = self.guest.as_ref().map(|guest| guest.role().options);
        Limit::new(options.and_then(|options| options.bandwidth_bits_per_second))
    }
}

/// The target is there again, and has said what it has.
pub(super) struct Resumption {
    control: Control,
    heard: u64,
    streams: Vec<(StreamHeader, u64)>,
}

/// How long the target may take to say what it has.
const RESUME_PATIENCE: Duration = Duration::from_secs(5);

/// Why a migration did not go on over a new connection.
pub(super) enum ResumeFault {
    /// The target may answer next time.
    Away(String),
    /// It was restarted, and expects the machine still.
    Forgotten,
    /// It has nothing of the migration any more, and never will: waiting for it is of no use.
    Over(String),
}

async fn resume_with(
    mut control: Control,
    resume: &SourceMessage,
) -> Result<Resumption, ResumeFault> {
    let answered = async {
        control.say(resume).await?;
        control.hear().await
    };
    let away = |reason: &str| ResumeFault::Away(reason.to_owned());
    let answer = tokio::time::timeout(RESUME_PATIENCE, answered).await;
    let answer = answer.map_err(|_| away("the target does not say what it has"))?;
    match answer.map_err(|error| ResumeFault::Away(reason(&error)))? {
        TargetMessage::Resumed { heard, streams } => Ok(Resumption { control, heard, streams }),
        TargetMessage::Failed { reason } => Err(ResumeFault::Over(reason)),
        TargetMessage::Forgotten => Err(ResumeFault::Forgotten),
        _ => Err(away("the target says something else than what it has")),
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host(address).await;
    let mut found = found.map_err(|error| format!("{address} cannot be resolved: {error}"))?;
    found.next().ok_or_else(|| format!("{address} has no address"))
}
