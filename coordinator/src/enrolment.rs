//! Who may join: what `novacron-transport` asks of the cluster when an applicant comes.

use novacron_protocol::time::Timestamp;
use novacron_transport::Role;
use novacron_transport::enrolment::{EnrolDecider, Redemption, Refusal, RefusalCode};
use novacron_transport::token::{TokenId, TokenRecord};

use crate::clock::new_request;
use crate::cluster::Cluster;
use crate::propose::{ProposeError, Proposer};
use crate::state::reply::TokenProblem;
use crate::state::{self, Body, Command};
use crate::view::View;

/// Contacts that an applicant is told of.
const CONTACTS_MAX: usize = 7;

/// The replicated tokens, as the enrolment server sees them.
#[derive(Clone)]
pub struct Tokens {
    pub(crate) proposer: Proposer,
    pub(crate) view: View,
    pub(crate) cluster: Cluster,
}

impl EnrolDecider for Tokens {
    fn now(&self) -> Timestamp {
        self.proposer.clock().now()
    }

    fn contacts(&self) -> Vec<String> {
        self.cluster.peer_addresses().into_iter().take(CONTACTS_MAX).collect()
    }

    async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>, Refusal> {
        // Linearizable: the token may have been made a moment ago, on another member.
        let read = self.view.read(|fleet| fleet.token(id).map(|token| token.record.clone()));
        read.await.map_err(|error| Refusal::new(RefusalCode::Unavailable, error.to_string()))
    }

    async fn redeem(&self, redemption: Redemption) -> Result<(), Refusal> {
        let Redemption { token, role, name } = redemption;
        let at = self.now();
        let body = Body::UseToken { token, role, name };
        let redeemed = self.proposer.propose(Command::of_cluster(new_request(at), at, body)).await;
        redeemed.map(drop).map_err(|error| Refusal::new(code(&error), error.to_string()))
    }
}

fn code(error: &ProposeError) -> RefusalCode {
    match error {
        ProposeError::Refused(state::Refusal::Token(problem)) => match problem {
            TokenProblem::Invalid => RefusalCode::TokenInvalid,
            TokenProblem::Used => RefusalCode::TokenUsed,
            TokenProblem::Expired => RefusalCode::TokenExpired,
            TokenProblem::NameTaken => RefusalCode::NameTaken,
            TokenProblem::OtherRole | TokenProblem::OtherName => RefusalCode::ClaimRefused,
        },
        _ => RefusalCode::Unavailable,
    }
}

/// Roles that may connect to the links of a coordinator.
pub(crate) const WELCOME: [Role; 2] = [Role::Coordinator, Role::Agent];
