//! Why a proposal did not become a reply.

use novacron_protocol::api::{Code, FieldCode, Problem, WrongField};

use crate::fitness::Unfit;
use crate::state::Refusal;

/// Why a change was not made, or is not known to have been made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The cluster agreed that it cannot be. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no leader, or no quorum to follow it. Nothing is known to have happened.
    #[error("the cluster has no quorum at the moment; try again with the same idempotency key")]
    Unavailable,
    /// Whoever leads, or was asked, is not fit for it. Nothing happened.
    #[error("the coordinator cannot take changes: {0}")]
    Unfit(Unfit),
    /// It was proposed and no answer came: it may still happen.
    #[error(
        "the cluster did not answer in time; ask again with the same idempotency key to learn the outcome"
    )]
    OutcomeUnknown,
    /// The command is too large to be proposed.
    #[error("the request is too large")]
    TooLarge,
    /// The same request was answered before, and part of that answer is not kept.
    #[error("{0}")]
    AnsweredBefore(&'static str),
    /// This member cannot work any more.
    #[error("this coordinator has stopped: {0}")]
    Stopped(String),
}

impl ProposeError {
    /// The stable code that the API answers with.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable => Code::Unavailable,
            Self::Unfit(unfit) => unfit.code(),
            Self::OutcomeUnknown => Code::OutcomeUnknown,
            Self::TooLarge => Code::TooLarge,
            Self::AnsweredBefore(_) => Code::Conflict,
            Self::Stopped(_) => Code::Internal,
        }
    }

    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        let problem = Problem::new(self.code(), self.to_string());
        match self {
            Self::Refused(Refusal::Invalid { field, problem: reason }) => {
                let (field, reason) = (field.clone(), reason.clone());
                let wrong = WrongField { field: field.clone(), reason, code: FieldCode::Conflict };
                Problem { invalid: vec![wrong], ..problem.about(field) }
            }
            Self::Refused(refusal) => match refusal.field() {
                Some(field) => problem.about(field),
                None => problem,
            },
            _ => problem,
        }
    }
}
