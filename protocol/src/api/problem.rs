//! Errors as RFC 9457 problem documents with a stable code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::findings::WrongField;
use crate::ids::RequestId;

/// Media type of a problem document (RFC 9457).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// `about:blank` or a page about the problem.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The code as a phrase.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: Code,
    /// What is wrong here and what would be right.
    pub detail: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every field of the request that is wrong, the first of them included; the whole request was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalid: Vec<WrongField>,
    /// Seconds after which it is worth asking again, as in the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// The request, for the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// Stable codes of errors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A field or parameter cannot be.
    InvalidRequest,
    /// Nothing proves who asks: no certificate and no API key, or one that is not valid any more.
    NotAuthenticated,
    /// Who asks may not do this.
    NotAllowed,
    /// There is no such thing.
    NotFound,
    /// The name is taken.
    NameTaken,
    /// The thing's state does not allow this.
    Conflict,
    /// The coordinator's id was used before and is never used again: join with an empty data directory.
    MemberIdUsed,
    /// No node, or not the chosen one, has room or fits.
    NoCapacity,
    /// A quota of the project would be passed.
    QuotaExceeded,
    /// The same idempotency key came with another request.
    IdempotencyConflict,
    /// The body is too large.
    TooLarge,
    /// The cluster has no quorum at the moment; nothing is known to have happened.
    Unavailable,
    /// The agent of the machine's node cannot be reached at the moment; nothing happened.
    NodeUnreachable,
    /// It took too long; whether it happened is not known: ask again with the same idempotency key.
    OutcomeUnknown,
    /// More usage records than one request may have.
    TooManyRecords,
    /// The entry of the ledger was corrected before.
    AlreadyCorrected,
    /// A price or plan that has begun is not changed.
    RateBegun,
    /// The project's plan has no room for more machines.
    PlanFull,
    /// A fault of the coordinator.
    Internal,
    /// A rule of residency says that the machine must not stand or go there.
    ResidencyRule,
    /// The principal, or the address that asks without proof of who it is, asks too often: wait as `Retry-After` says.
    RateLimited,
    /// Too many requests of the principal are under way: wait for an answer, then ask again.
    TooManyAtOnce,
    /// The head of the request has too many bytes or fields.
    HeadTooLarge,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The cursor is of no page of this list, or of one that is not kept any more: list from the beginning.
    CursorUnknown,
    /// The join token was used before: every join needs its own.
    TokenUsed,
    /// The join token has expired: ask for a new one.
    TokenExpired,
    /// Events since that revision are forgotten: read the lists, and follow from their revision.
    RevisionGone,
    /// The cluster has not come to that revision.
    RevisionAhead,
    /// The revision belongs to what a restore from a backup undid: read the lists, and follow from their revision.
    RevisionUndone,
    /// As many streams of events are open as may be.
    TooManyWatchers,
    /// What this member has is older than the reader would take.
    TooStale,
    /// The coordinator that was asked does not have the key that the secret is encrypted with.
    SecretKeyMissing,
    /// The cluster has members that are too old for this: it can be done when all of them are upgraded.
    UpgradeNeeded,
    /// The coordinator has no room on its disk, or too many have none.
    StorageFull,
    /// The clock of the coordinator that leads differs too much from those of the others.
    ClockOff,
    /// The machine has snapshots, which cannot move: delete them first.
    HasSnapshots,
    /// Another snapshot was made on top of this one: delete that first.
    SnapshotNeeded,
    /// The configuration of the coordinator that was asked turns this off.
    Disabled,
}

impl Code {
    /// HTTP status of the code.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::CursorUnknown => 400,
            Self::NotAuthenticated => 401,
            Self::NotAllowed => 403,
            Self::NotFound => 404,
            Self::NameTaken
            | Self::Conflict
            | Self::MemberIdUsed
            | Self::UpgradeNeeded
            | Self::AlreadyCorrected
            | Self::TokenUsed
            | Self::TokenExpired
            | Self::HasSnapshots
            | Self::SnapshotNeeded
            | Self::Disabled
            | Self::RateBegun => 409,
            Self::TooLarge | Self::TooManyRecords => 413,
            Self::NoCapacity
            | Self::QuotaExceeded
            | Self::IdempotencyConflict
            | Self::PlanFull
            | Self::ResidencyRule => 422,
            Self::RequestTimeout => 408,
            // The reader's own condition.
            Self::TooStale => 412,
            Self::RateLimited | Self::TooManyAtOnce => 429,
            Self::HeadTooLarge => 431,
            Self::RevisionAhead => 400,
            Self::RevisionGone | Self::RevisionUndone => 410,
            Self::TooManyWatchers => 429,
            Self::Internal => 500,
            Self::Unavailable
            | Self::NodeUnreachable
            | Self::SecretKeyMissing
            | Self::StorageFull
            | Self::ClockOff => 503,
            Self::OutcomeUnknown => 504,
        }
    }

    /// The code as a phrase.
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "Invalid request",
            Self::NotAuthenticated => "Not authenticated",
            Self::NotAllowed => "Not allowed",
            Self::NotFound => "Not found",
            Self::NameTaken => "Name taken",
            Self::Conflict => "Conflict with the present state",
            Self::MemberIdUsed => "Id of a coordinator that left",
            Self::NoCapacity => "No node fits",
            Self::QuotaExceeded => "Quota exceeded",
            Self::IdempotencyConflict => "Idempotency key used for another request",
            Self::TooLarge => "Too large",
            Self::TooManyRecords => "Too many records",
            Self::AlreadyCorrected => "Corrected already",
            Self::RateBegun => "Prices that have begun are not changed",
            Self::PlanFull => "The plan has no room",
            Self::Internal => "Internal fault",
            Self::RevisionGone => "Events of that revision are forgotten",
            Self::RevisionAhead => "A revision that has not come",
            Self::RevisionUndone => "A revision that a restore undid",
            Self::TooManyWatchers => "Too many streams of events",
            Self::TooStale => "Too old",
            Self::Unavailable => "No quorum",
            Self::NodeUnreachable => "Node not reachable",
            Self::OutcomeUnknown => "Outcome unknown",
            Self::ResidencyRule => "Against a rule of residency",
            Self::RateLimited => "Too many requests",
            Self::TooManyAtOnce => "Too many requests at once",
            Self::HeadTooLarge => "Head of the request too large",
            Self::RequestTimeout => "Request not received in time",
            Self::CursorUnknown => "Unknown or expired cursor",
            Self::TokenUsed => "Join token used before",
            Self::TokenExpired => "Join token expired",
            Self::SecretKeyMissing => "Key of secrets not at hand",
            Self::UpgradeNeeded => "Members of the cluster are too old for this",
            Self::StorageFull => "No room on the disk",
            Self::ClockOff => "Clock off",
            Self::HasSnapshots => "The machine has snapshots",
            Self::SnapshotNeeded => "The snapshot has a child",
            Self::Disabled => "Turned off",
        }
    }
}

impl Problem {
    /// A problem with a code and a sentence for a person.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            problem_type: "about:blank".to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            field: None,
            invalid: Vec::new(),
            retry_after_seconds: None,
            request_id: None,
        }
    }

    /// The same problem, for so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The same problem, about a field.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}
