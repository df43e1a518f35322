//! Bugs that can be planted in what the simulation puts around a member, to prove that the checks find them. Nothing
//! of the product knows of them.

/// A bug that a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Planted {
    /// None: whatever a run finds then is a bug of the product, or of the simulation.
    #[default]
    Nothing,
    /// The disk says that a file is synced and has not begun: log and vote are acknowledged before they are safe.
    AckBeforeSync,
    /// A member notes a request as done before it is written, and answers the repetition from its note.
    DedupeBeforeWrite,
    /// A member that starts again applies the first entry after its snapshot twice.
    DoubleApply,
    /// A request that is sent again counts as another one.
    RetryAsNew,
    /// Reads are answered from what the member happens to have.
    StaleRead,
    /// A host does what it is told for whatever generation, and as often as it is told.
    GenerationUnchecked,
    /// A member takes its disk for empty.
    ReserveIgnored,
    /// A member proposes by whatever its clock says.
    ClockBelieved,
    /// The disk leaves out the last byte of what is written of a sealed window.
    SealedShort,
    /// A member that is asked for an id gives that of one that left, if there is one.
    IdGivenAgain,
}

impl Planted {
    /// All bugs.
    pub const BUGS: [Self; 10] = [
        Self::AckBeforeSync,
        Self::DedupeBeforeWrite,
        Self::DoubleApply,
        Self::RetryAsNew,
        Self::StaleRead,
        Self::GenerationUnchecked,
        Self::ReserveIgnored,
        Self::ClockBelieved,
        Self::SealedShort,
        Self::IdGivenAgain,
    ];
}
