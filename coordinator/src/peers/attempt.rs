//! What came of one try to have the leader do something: what is known of whether it was done.

use super::links::PeerError;
use super::message::Declined;
use crate::fitness::Unfit;

/// What came of one try.
#[derive(Debug, Clone)]
pub(super) enum Attempt {
    /// Certainly not done.
    NotDone,
    /// Perhaps done.
    Unknown,
    /// Cannot be done.
    NotPossible(String),
    /// Not done, and not to be done soon.
    Unfit(Unfit),
    /// Not done, and this member is none any more: it will stop, and others do what it cannot.
    Stranger,
    /// This process has stopped.
    Stopped,
}

impl From<Declined> for Attempt {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::OtherMember { .. }
            | Declined::NotLeader { .. }
            | Declined::NoQuorum
            | Declined::Busy => Self::NotDone,
            // A clock that has jumped is compared with the others' within a moment.
            Declined::Unfit { reason, is_aside } if is_aside || reason.is_momentary() => {
                Self::NotDone
            }
            Declined::Unfit { reason, .. } => Self::Unfit(reason),
            Declined::OutcomeUnknown => Self::Unknown,
            Declined::NotPossible(reason) => Self::NotPossible(reason),
            // Consoles only are declined so, and their streams do not come this way.
            away @ Declined::NodeAway(_) => Self::NotPossible(away.to_string()),
            Declined::OtherIncarnation { .. } | Declined::MemberLeft { .. } => Self::Stranger,
            // What is to be done about it is in its text.
            other @ Declined::OtherFormats(_) => Self::NotPossible(other.to_string()),
            Declined::Stopped => Self::Stopped,
        }
    }
}

impl From<PeerError> for Attempt {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Declined(Declined::Stopped) => Self::Unknown,
            PeerError::Declined(declined) => declined.into(),
            PeerError::Resolve { .. } | PeerError::Connect { .. } | PeerError::Name { .. } => {
                Self::NotDone
            }
            PeerError::Codec(error) => Self::NotPossible(error.to_string()),
            PeerError::NoStreams | PeerError::OtherAnswer | PeerError::Report(_) => {
                Self::NotPossible(error.to_string())
            }
            PeerError::ShuttingDown => Self::Stopped,
            PeerError::Closed(_) | PeerError::Frame(_) | PeerError::NoAnswer => Self::Unknown,
        }
    }
}
