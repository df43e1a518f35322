//! An agent that stands still at an exact step of a migration, for a test that kills it there or cuts its link.
//!
//! A step is an action of a session or a message of the control stream, before it is performed or said and after. Where the
//! variable [`VARIABLE`] names steps, the agent stops itself (`SIGSTOP`) the first time that it comes to each, and goes on
//! when it is told to (`SIGCONT`), if it ever is. The names are matches over the types whose values are performed: an action
//! that has none does not compile.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

use novacron_protocol::session::handover::{SourceRecord, TargetRecord, Verdict};
use novacron_protocol::session::message::{SourceMessage, TargetMessage};
use novacron_protocol::session::source::{SourceAction, SourceOutcome};
use novacron_protocol::session::target::{TargetAction, TargetOutcome};
use rustix::process::{Signal, getpid, kill_process};

use crate::metrics::Side;

/// The environment variable: steps such as `source:CopyMemory:before`, with commas between them.
pub const VARIABLE: &str = "NOVACRON_HOLD_AT";

/// What has a step of its own when it is performed or said.
pub trait Performed {
    /// The step; `None` for the action of saying something, since every message is a step when it is said.
    fn step(&self) -> Option<Step>;
}

/// Names the values of a type, and lists the names. What follows the last semicolon has none.
macro_rules! steps {
    ($list:ident, $side:ident, $type:ty: $($pattern:pat => $name:literal,)+ $(; $unnamed:pat)?) => {
        const $list: (Side, &[&str]) = (Side::$side, &[$($name),+]);

        impl Performed for $type {
            fn step(&self) -> Option<Step> {
                let name = match self {
                    $($pattern => $name,)+
                    $($unnamed => return None,)?
                };
                Some(Step { side: Side::$side, name })
            }
        }
    };
}

steps! { SOURCE_ACTIONS, Source, SourceAction:
    Self::Connect => "Connect",
    Self::SendFiles { .. } => "SendFiles",
    Self::SynchroniseDisks => "SynchroniseDisks",
    Self::CopyMemory => "CopyMemory",
    Self::AllowSwitchover => "AllowSwitchover",
    Self::GiveReturnPath(_) => "GiveReturnPath",
    Self::GiveShut => "GiveShut",
    Self::Persist(SourceRecord::Holds) => "PersistHolds",
    Self::Persist(SourceRecord::Released) => "PersistReleased",
    Self::Persist(SourceRecord::Confirmed) => "PersistConfirmed",
    Self::StartOver { .. } => "StartOver",
    Self::TakeBack(_) => "TakeBack",
    Self::Remove => "Remove",
    Self::Finish(SourceOutcome::Completed) => "FinishCompleted",
    Self::Finish(SourceOutcome::Failed { .. } | SourceOutcome::Cancelled) => "FinishKept",
    ; Self::Send(_)
}

steps! { SOURCE_MESSAGES, Source, SourceMessage:
    Self::Offer(_) => "Offer",
    Self::DisksSynchronised => "DisksSynchronised",
    Self::Sent(_) => "Sent",
    Self::Go => "Go",
    Self::Resume { .. } => "Resume",
    Self::Ask { .. } => "Ask",
    Self::Abort { .. } => "Abort",
}

steps! { TARGET_ACTIONS, Target, TargetAction:
    Self::Load => "Load",
    Self::Persist(TargetRecord::Accepted) => "PersistAccepted",
    Self::Persist(TargetRecord::Refused | TargetRecord::Waiting) => "PersistRefused",
    Self::Run => "Run",
    Self::Discard => "Discard",
    Self::Finish(TargetOutcome::Accepted) => "FinishAccepted",
    Self::Finish(TargetOutcome::Refused { .. }) => "FinishRefused",
    ; Self::Send(_)
}

steps! { TARGET_MESSAGES, Target, TargetMessage:
    Self::Taken { .. } => "Taken",
    Self::Holds { .. } => "Holds",
    Self::HoldsPages { .. } => "HoldsPages",
    Self::Prepared => "Prepared",
    Self::ReturnPath(_) => "ReturnPath",
    Self::Ready { .. } => "Ready",
    Self::Resumed { .. } => "Resumed",
    Self::Forgotten => "Forgotten",
    Self::Processed(_) => "Processed",
    Self::Verdict(Verdict::Waiting) => "VerdictWaiting",
    Self::Verdict(Verdict::Accepted) => "VerdictAccepted",
    Self::Verdict(Verdict::Refused) => "VerdictRefused",
    Self::Running { .. } => "Running",
    Self::Failed { .. } => "Failed",
    Self::HostLoad { .. } => "HostLoad",
}

/// Something that one side of a migration performs or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Who does.
    pub side: Side,
    /// What it is.
    pub name: &'static str,
}

impl Step {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let lists = [SOURCE_ACTIONS, SOURCE_MESSAGES, TARGET_ACTIONS, TARGET_MESSAGES];
        lists
            .into_iter()
            .flat_map(|(side, names)| names.iter().map(move |name| Self { side, name }))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.side.word(), self.name)
    }
}

/// On which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is done.
    Before,
    /// It is done, or begun if it takes its time; what was said may still be on its way out.
    After,
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// Where to stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// At which step.
    pub step: Step,
    /// On which side of it.
    pub moment: Moment,
}

impl Hold {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let moments = |step| [Moment::Before, Moment::After].map(|moment| Self { step, moment });
        Step::all().flat_map(moments)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.step, self.moment)
    }
}

/// A text that names no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}: `{found}` is no step; there are {}", all_names())]
pub struct UnknownHold {
    found: String,
}

fn all_names() -> String {
    Hold::all().map(|hold| hold.to_string()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Hold {
    type Err = UnknownHold;

    fn from_str(text: &str) -> Result<Self, UnknownHold> {
        let known = Self::all().find(|hold| hold.to_string() == text);
        known.ok_or_else(|| UnknownHold { found: text.to_owned() })
    }
}

/// Of this process, where it was started to stand still somewhere: what it has not come to yet.
static HOLDS: OnceLock<Mutex<Vec<Hold>>> = OnceLock::new();

/// Takes the variable's value, if it is set, for the rest of this process.
///
/// # Errors
/// It names something that is no step.
pub fn begin(value: Option<&OsStr>) -> Result<(), UnknownHold> {
    let Some(value) = value else { return Ok(()) };
    let holds: Vec<Hold> =
        value.to_string_lossy().split(',').map(str::parse).collect::<Result<_, _>>()?;
    tracing::warn!(?value, "this agent stops itself in the middle of a migration, for a test");
    // A process is told once.
    let _ = HOLDS.set(Mutex::new(holds));
    Ok(())
}

/// A migration comes to this step, or has done it.
pub(crate) fn at(step: Option<Step>, moment: Moment) {
    let (Some(holds), Some(step)) = (HOLDS.get(), step) else { return };
    let hold = Hold { step, moment };
    let mut holds = holds.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = holds.iter().position(|wanted| *wanted == hold) {
        holds.swap_remove(index);
        tracing::warn!(%hold, "this agent stands still");
        stop();
        tracing::warn!(%hold, "this agent goes on");
    }
}

/// Stops all threads; returns when the process has been told to go on.
fn stop() {
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        tracing::error!(%error, "this agent cannot stop itself");
    }
    // Any thread may take the signal, and then all stop where they leave the kernel: this one where it leaves the read that
    // finds it taken, at the latest.
    while is_stop_pending() {}
}

/// Whether no thread has taken the signal yet: the mask of signals for the whole process, where bit 0 is signal 1.
fn is_stop_pending() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (Signal::STOP.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_step_has_a_name_of_its_own_that_is_read_back() {
        let names: HashSet<String> = Hold::all().map(|hold| hold.to_string()).collect();
        assert_eq!(names.len(), Hold::all().count());
        assert!(Hold::all().all(|hold| hold.to_string().parse() == Ok(hold)));
    }

    #[test]
    fn what_is_no_step_is_named_with_all_that_are() {
        let refusal = "source:Connect".parse::<Hold>().unwrap_err().to_string();
        assert!(refusal.contains("`source:Connect` is no step"), "{refusal}");
        assert!(refusal.contains("source:Connect:before, source:Connect:after"), "{refusal}");
    }

    #[test]
    fn what_is_performed_is_in_the_list() {
        let persist = SourceAction::Persist(SourceRecord::Released).step();
        assert!(Step::all().any(|step| Some(step) == persist));
        assert_eq!(SourceAction::Send(SourceMessage::Go).step(), None);
        assert_eq!(SourceMessage::Go.step(), Step::all().find(|step| step.name == "Go"));
    }
}
