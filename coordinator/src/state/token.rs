//! Join tokens: who may become a part of the cluster. The state knows a hash of the secret, never the secret.

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::api::{EventKind, PrincipalKind};
use novacron_protocol::ids::{BindingId, RequestId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::token::{TokenId, TokenRecord};
use novacron_transport::{Role, SubjectName};
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::binding::{NewBinding, Right};
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::reply::{Accepted, Refusal, Reply, TokenProblem};
use super::table::{Key, ROW_BYTES_MAX};

/// Tokens that may be open or remembered at once.
pub const TOKENS_MAX: usize = 10_000;

/// How long a token is remembered after it expired, so that a late use is told `expired`: one day.
const REMEMBERED_MS: u64 = 24 * 3600 * 1000;

/// A token as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What the cluster files it under.
    pub id: TokenId,
    /// What decides a claim.
    pub record: TokenRecord,
    /// The name that used it.
    pub used_by: Option<SubjectName>,
    /// For a new operator: the role that it gets on the whole fleet.
    pub access: AccessRole,
}

impl Message for Token {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "token row";
}

impl Key for TokenId {
    fn encode(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl Fleet {
    pub(super) fn create_token(&mut self, now: &mut Applying, token: &Token) -> Reply {
        self.forget_old_tokens(now.at);
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Refusal::Full(format!("{TOKENS_MAX} join tokens")));
        }
        self.tokens.insert(token.id, token.clone());
        let about = About::of(Subject::Token(token.id));
        let role = token.record.role;
        let message = format!("join token {} for role {role} was made", token.id);
        self.emit(now, EventKind::TokenCreated, about, message);
        Ok(Accepted::Token(token.id))
    }

    fn forget_old_tokens(&mut self, now: Timestamp) {
        let is_old = |token: &Token| now.since_ms(token.record.expires_at) > REMEMBERED_MS;
        let old: Vec<TokenId> =
            self.tokens.values().filter(|token| is_old(token)).map(|token| token.id).collect();
        for id in old {
            self.tokens.remove(&id);
        }
    }

    fn is_in_use(&self, role: Role, name: &SubjectName) -> bool {
        let name = name.as_str();
        match role {
            Role::Agent => self.nodes.values().any(|node| node.name.as_str() == name),
            Role::Coordinator => self.present_members().any(|member| member.facts.name == name),
            Role::Operator => self.principals.values().any(|one| one.name.as_str() == name),
            Role::Partner => false,
        }
    }

    /// A certificate for an operator was asked for. A new operator becomes a principal with a role on the whole fleet;
    /// one that is there keeps what it has, and no more.
    pub(super) fn welcome_operator(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        name: &SubjectName,
        role: AccessRole,
    ) -> Result<(), Refusal> {
        match self.principals.get(name).map(|principal| principal.kind) {
            Some(PrincipalKind::Operator) => return Ok(()),
            Some(PrincipalKind::Service) => return Err(Refusal::Token(TokenProblem::NameTaken)),
            None => {}
        }
        self.check_room_for_bindings()?;
        self.create_principal(now, name, PrincipalKind::Operator, "")?;
        let (principal, right) = (name.clone(), Right::Role(role));
        // The request is applied once, so its id is as good as a new one.
        let id = BindingId(request.0);
        let (scope, effect) = (Scope::Fleet, BindingEffect::Allow);
        self.bind(now, &NewBinding { id, principal, right, scope, effect }).map(drop)
    }

    /// Uses up a token whose proof the proposer has verified.
    pub(super) fn use_token(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        id: TokenId,
        role: Role,
        name: &SubjectName,
    ) -> Reply {
        let token = self.tokens.get(&id).ok_or(Refusal::Token(TokenProblem::Invalid))?;
        let record = &token.record;
        let is_name = record.name.as_ref().is_none_or(|only| only == name);
        match () {
            () if record.used => return Err(Refusal::Token(TokenProblem::Used)),
            () if now.at >= record.expires_at => return Err(Refusal::Token(TokenProblem::Expired)),
            () if record.role != role => return Err(Refusal::Token(TokenProblem::OtherRole)),
            () if !is_name => return Err(Refusal::Token(TokenProblem::OtherName)),
            // Whoever may join under any name must not take the place of somebody who is there.
            () if record.name.is_none() && self.is_in_use(role, name) => {
                return Err(Refusal::Token(TokenProblem::NameTaken));
            }
            () => {}
        }
        if role == Role::Operator {
            let access = token.access;
            self.welcome_operator(now, request, name, access)?;
        }
        self.tokens.update(&id, |token| {
            token.record.used = true;
            token.used_by = Some(name.clone());
        });
        let message = format!("join token {id} was used by {name} for role {role}");
        self.emit(now, EventKind::TokenUsed, About::of(Subject::Token(id)), message);
        Ok(Accepted::Token(id))
    }
}
