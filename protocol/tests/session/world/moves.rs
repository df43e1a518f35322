//! What may happen next in a world.

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The oldest message of the source arrives.
    ToTarget,
    /// The oldest message of the target arrives.
    ToSource,
    /// Something at the source takes effect.
    AtSource,
    /// Something at the target takes effect.
    AtTarget,
    /// What the source is writing is durable.
    SourceWrites,
    /// What the target is writing is durable.
    TargetWrites,
    /// The source reaches the target.
    Reach,
    /// Nothing else can happen, so time passes until somebody's patience ends.
    Wait,
    /// A source's agent that could not write is started again.
    RestartSource,
    /// A target's agent that could not write is started again.
    RestartTarget,
    /// The source dials and does not reach the target.
    Miss,
    /// The link breaks.
    Cut,
    /// The source's agent dies and starts again.
    CrashSource,
    /// The target's agent dies and starts again.
    CrashTarget,
    /// The source cannot write what it was about to.
    SourceWriteFails,
    /// The target cannot write what it was about to.
    TargetWriteFails,
    /// The source's QEMU dies.
    KillSourceQemu,
    /// The target's QEMU dies.
    KillTargetQemu,
    /// Somebody wants it cancelled.
    Cancel,
    /// The coordinator tells the target that it is over.
    Abandon,
    /// Somebody's patience ends although other things were about to happen.
    Hurry,
    /// On a wild network: the oldest message of the source arrives, and will once more.
    AgainToTarget,
    /// On a wild network: the oldest message of the target arrives, and will once more.
    AgainToSource,
    /// On a wild network: the oldest message of the source is overtaken by all others.
    LateToTarget,
    /// On a wild network: the oldest message of the target is overtaken by all others.
    LateToSource,
}

impl Move {
    /// All of them; first those that are no faults.
    pub const ALL: [Self; 25] = [
        Self::ToTarget,
        Self::ToSource,
        Self::AtSource,
        Self::AtTarget,
        Self::SourceWrites,
        Self::TargetWrites,
        Self::Reach,
        Self::Wait,
        Self::RestartSource,
        Self::RestartTarget,
        Self::Miss,
        Self::Cut,
        Self::CrashSource,
        Self::CrashTarget,
        Self::SourceWriteFails,
        Self::TargetWriteFails,
        Self::KillSourceQemu,
        Self::KillTargetQemu,
        Self::Cancel,
        Self::Abandon,
        Self::Hurry,
        Self::AgainToTarget,
        Self::AgainToSource,
        Self::LateToTarget,
        Self::LateToSource,
    ];

    /// Whether something breaks, or somebody interferes.
    pub fn is_fault(self) -> bool {
        !matches!(
            self,
            Self::ToTarget
                | Self::ToSource
                | Self::AtSource
                | Self::AtTarget
                | Self::SourceWrites
                | Self::TargetWrites
                | Self::Reach
                | Self::Wait
                | Self::RestartSource
                | Self::RestartTarget
        )
    }
}
