//! What kind of world it is.

/// What a world is like from the beginning to the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// What arrives is not what was sent.
    pub is_corrupt: bool,
    /// Messages may be repeated and overtake each other, and outlive their connection, which QUIC's streams rule out.
    pub is_wild: bool,
    /// It may start over once only.
    pub restarts_once: bool,
    /// The way in which an agent does not keep to the rule.
    pub broken: Option<BrokenRule>,
}

/// A rule that is broken on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenRule {
    /// The source goes on as if its records were durable before they are.
    SourceWritesLate,
    /// The target does.
    TargetWritesLate,
    /// The target forgets in a crash that it refused, and still has the guest.
    RefusalForgotten,
    /// The source takes a released guest back when it has waited long enough.
    ReleaseRunsOut,
}
