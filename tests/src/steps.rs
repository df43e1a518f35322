//! A step of a migration, how one gets there, and what is done to the agent that stands still at it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use novacron_agent::hold::{Hold, Moment, Step};
use novacron_agent::metrics::Side;
use novacron_protocol::migration::MigrationStatus;
use novacron_sdk::api::MigrationView;

use crate::agent::Agent;
use crate::attempt::Attempt;
use crate::fleet::{Guest, NODES, PATIENCE};
use crate::wait::until;

/// What is done to an agent that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It is killed and started again.
    Kill,
    /// Its link to the other agent is cut until somebody has noticed.
    Cut,
}

impl fmt::Display for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kill => "kill",
            Self::Cut => "cut",
        })
    }
}

/// One migration with one deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Where.
    pub hold: Hold,
    /// What.
    pub deed: Deed,
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.hold, self.deed)
    }
}

impl FromStr for Round {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (hold, deed) = text.rsplit_once(':').context("write STEP:MOMENT:DEED")?;
        let deed = match deed {
            "kill" => Deed::Kill,
            "cut" => Deed::Cut,
            other => bail!("`{other}` is neither `kill` nor `cut`"),
        };
        Ok(Self { hold: hold.parse()?, deed })
    }
}

/// How a migration comes to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    /// By itself.
    Straight,
    /// It is cancelled while the target prepares.
    Cancelled,
    /// This is done before, there.
    After(Deed, &'static str),
    /// The target loses the machine when the source has released it.
    Lost,
}

impl Road {
    /// A step that is not named here is on every migration's way. If it is not, the test does not get there, and says so.
    fn to(step: Step) -> Self {
        match step.name {
            // All of the memory is at the target by then.
            "StartOver" | "HoldsPages" => Self::After(Deed::Kill, "source:GiveShut:before"),
            "Forgotten" => Self::After(Deed::Kill, "target:Prepared:after"),
            "Resume" | "Resumed" => Self::After(Deed::Cut, "source:CopyMemory:after"),
            "Ask" | "VerdictWaiting" => Self::After(Deed::Cut, "source:PersistReleased:before"),
            "TakeBack" | "Abort" | "FinishKept" | "PersistRefused" | "Discard"
            | "VerdictRefused" | "Failed" | "FinishRefused" => Self::Cancelled,
            "PersistHolds" => Self::Lost,
            _ => Self::Straight,
        }
    }

    /// Where agents stand still on the way.
    fn holds(self, step: Step) -> Result<Vec<Hold>> {
        let names: &[&str] = match self {
            Self::Straight => &[],
            Self::Cancelled if step.side == Side::Source => &["target:Prepared:before"],
            Self::Cancelled => &["target:Prepared:before", "source:Abort:after"],
            Self::After(_, name) => &[name],
            Self::Lost => &["source:PersistReleased:after"],
        };
        names.iter().map(|name| Ok(name.parse()?)).collect()
    }
}

impl Round {
    /// Whether a link is cut on its way.
    pub fn needs_links(&self) -> bool {
        let is_cut_before = matches!(Road::to(self.hold.step), Road::After(Deed::Cut, _));
        self.deed == Deed::Cut || is_cut_before
    }

    /// Moves the guest to the other node, does the deed on the way, and checks that all is in order.
    ///
    /// # Errors
    /// What is not, or that the migration did not come to the step.
    pub fn run(&self, guest: &Guest<'_>) -> Result<MigrationView> {
        let (here, there) = guest.here_and_there()?;
        let agents = Agents { guest, source: agent(guest, here), target: agent(guest, there) };
        let road = Road::to(self.hold.step);
        let mut holds = road.holds(self.hold.step)?;
        holds.push(self.hold);
        agents.arm(&holds)?;
        let attempt = Attempt::begin(guest)?;
        agents.walk(road, self.hold, &attempt)?;
        let held = agents.of(self.hold.step.side);
        held.wait_until_it_is_held()?;
        agents.perform(self.deed, held, &[], &attempt)?;
        let view = attempt.settle()?;
        self.check_status(road, &view)?;
        Ok(view)
    }

    fn check_status(&self, road: Road, view: &MigrationView) -> Result<()> {
        let expected = match road {
            Road::Cancelled => MigrationStatus::Cancelled,
            Road::Lost => MigrationStatus::Failed,
            _ if self.may_fail() => return Ok(()),
            _ => MigrationStatus::Completed,
        };
        ensure!(view.status == expected, "it should have ended {expected:?}: {view:#?}");
        Ok(())
    }

    /// Whether the guest may stay where it is: nothing has been agreed yet; it stands still while nobody knows of the cut,
    /// which it does for ten seconds at most (a killed agent says that it was, once it is back); or it was given to a
    /// target that has lost it, which does not get it twice. What was said last may have left before the agent stood still:
    /// a source that hears that the target is ready gives the guest away within milliseconds.
    fn may_fail(&self) -> bool {
        let unagreed = ["Connect", "Offer", "Taken"];
        let standing = ["Sent", "Load", "Ready"];
        let given = ["PersistAccepted", "VerdictWaiting"];
        let name = self.hold.step.name;
        let is_ready_said = name == "Ready" && self.hold.moment == Moment::After;
        is_ready_said
            || unagreed.contains(&name)
            || given.contains(&name)
            || self.deed == Deed::Cut && standing.contains(&name)
    }
}

fn agent<'a>(guest: &Guest<'a>, node: &'a str) -> Agent<'a> {
    Agent { fleet: guest.fleet, node }
}

/// Both ends of one migration.
struct Agents<'a> {
    guest: &'a Guest<'a>,
    source: Agent<'a>,
    target: Agent<'a>,
}

impl Agents<'_> {
    fn of(&self, side: Side) -> &Agent<'_> {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    fn arm(&self, holds: &[Hold]) -> Result<()> {
        for side in [Side::Source, Side::Target] {
            let of_side = |hold: &&Hold| hold.step.side == side;
            let holds: Vec<_> = holds.iter().filter(of_side).copied().collect();
            if !holds.is_empty() {
                self.of(side).restart(&holds)?;
            }
        }
        Ok(())
    }

    /// Everything that comes before the agent stands still at the step.
    fn walk(&self, road: Road, hold: Hold, attempt: &Attempt<'_>) -> Result<()> {
        match road {
            Road::Straight => Ok(()),
            Road::Cancelled => self.cancel(hold.step.side, attempt),
            Road::After(deed, at) => {
                let at: Hold = at.parse()?;
                let agent = self.of(at.step.side);
                agent.wait_until_it_is_held()?;
                let still = if at.step.side == hold.step.side { vec![hold] } else { vec![] };
                self.perform(deed, agent, &still, attempt)
            }
            Road::Lost => {
                self.source.wait_until_it_is_held()?;
                self.target.restart(&[])?;
                self.source.go_on()
            }
        }
    }

    /// The target stands still meanwhile: the source cannot be quicker.
    fn cancel(&self, side: Side, attempt: &Attempt<'_>) -> Result<()> {
        self.target.wait_until_it_is_held()?;
        self.guest.fleet.client().migration_cancel(attempt.ordered.migration_id)?;
        self.source.wait_until_it_is_held()?;
        if side == Side::Target {
            self.source.go_on()?;
        }
        self.target.go_on()
    }

    fn perform(
        &self,
        deed: Deed,
        held: &Agent<'_>,
        then: &[Hold],
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        match deed {
            Deed::Kill => held.restart(then),
            Deed::Cut => self.cut(held, attempt),
        }
    }

    fn cut(&self, held: &Agent<'_>, attempt: &Attempt<'_>) -> Result<()> {
        let fleet = self.guest.fleet;
        fleet.dev(&["link", NODES[0], NODES[1], "--down"])?;
        let logs =
            [(&self.source, self.source.log_bytes()?), (&self.target, self.target.log_bytes()?)];
        held.go_on()?;
        until("the cut is noticed, or all is over", PATIENCE, || {
            for (agent, bytes) in &logs {
                if has_lost_its_link(&agent.log_since(*bytes)?) {
                    return Ok(Some(()));
                }
            }
            Ok(attempt.view()?.status.is_terminal().then_some(()))
        })?;
        fleet.note("the cut was noticed, or all was over");
        fleet.dev(&["link", NODES[0], NODES[1], "--up"])
    }
}

fn has_lost_its_link(log: &str) -> bool {
    log.contains("the link to the target is lost") || log.contains("the link to the source ended")
}
