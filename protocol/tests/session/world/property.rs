//! What must be so.

use std::fmt;

/// One thing that must be so in every state, at every end, or from every state on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// At most one copy of the guest runs.
    OneCopy,
    /// At most one side may run it by what is durable.
    OneOwner,
    /// *Go* is said only when the release is durable.
    GoAfterRelease,
    /// The source runs it again only while its durable record gives it the right.
    BackByRight,
    /// The target runs it only after its acceptance is durable.
    RunByRight,
    /// A verdict that was given never changes.
    SteadyVerdict,
    /// Where it ends, one copy runs and nothing is left at the other side, unless the one QEMU that had the guest died.
    EndsWell,
    /// From every state, when nothing more breaks, an end is reached, whatever happens first.
    Ends,
}

impl Property {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::OneCopy,
        Self::OneOwner,
        Self::GoAfterRelease,
        Self::BackByRight,
        Self::RunByRight,
        Self::SteadyVerdict,
        Self::EndsWell,
        Self::Ends,
    ];
}

impl fmt::Display for Property {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OneCopy => "at most one copy runs",
            Self::OneOwner => "at most one side may run it",
            Self::GoAfterRelease => "go is said after the release is durable",
            Self::BackByRight => "the source takes it back only by right",
            Self::RunByRight => "the target runs it after its acceptance is durable",
            Self::SteadyVerdict => "a verdict never changes",
            Self::EndsWell => "every end has one running copy and nothing beside it",
            Self::Ends => "every calm way leads to an end",
        })
    }
}
