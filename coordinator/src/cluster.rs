//! The coordinators themselves: who they are, who may join, who leaves.

use std::sync::Arc;

use crate::raft::words::Membership;
use futures_util::future::join_all;
use novacron_protocol::access::AccessRole;
use novacron_protocol::api::{
    ClusterStatus, ClusterView, MemberRole, MemberStatus, MemberView, TokenCreate, TokenView,
};
use novacron_protocol::ids::{ClusterId, MemberId, RequestId};
use novacron_protocol::limits::TOKEN_TTL_S_RANGE;
use novacron_transport::authority::Fingerprint;
use novacron_transport::token::{JoinToken, RANDOM_BYTES, TokenRecord};
use novacron_transport::{Role, SubjectName};

use crate::auth::Authorized;
use crate::peers::{Call, LeaderLink};
use crate::propose::{ProposeError, Proposer};
use crate::raft::MemberNode;
use crate::state::member::MemberRecord;
use crate::state::token::Token;
use crate::state::{Accepted, Body, Command, Fleet, Origin, Refusal};
use crate::status::{self, OwnStatus};
use crate::view::{ReadError, View};
use tokio::time::timeout;

/// Seconds that a join token lives unless said.
const TTL_SECONDS_DEFAULT: u64 = 3600;

/// The cluster, for those who run it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    id: ClusterId,
    authority: Fingerprint,
    leader: LeaderLink,
    proposer: Proposer,
    view: View,
    own: OwnStatus,
}

impl Cluster {
    pub(crate) fn new(
        id: ClusterId,
        authority: Fingerprint,
        leader: LeaderLink,
        proposer: Proposer,
        view: View,
        own: OwnStatus,
    ) -> Self {
        Self { id, authority, leader, proposer, view, own }
    }

    /// The cluster's identity.
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// The cluster as this member sees it, after it has caught up.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] without a quorum.
    pub async fn view(&self) -> Result<ClusterView, ReadError> {
        self.view.read(|_| ()).await?;
        self.seen_here().await
    }

    /// The cluster as this member sees it, however far behind it is.
    async fn seen_here(&self) -> Result<ClusterView, ReadError> {
        let (revision, settings) = self.view.local(|fleet| (fleet.revision(), fleet.settings()));
        // From the core itself: its metrics are a little late, and empty at the start.
        let core = self
            .view
            .raft()
            .with_raft_state(|state| Arc::clone(state.membership_state.effective()));
        let effective = core.await.map_err(|_| ReadError::Unavailable)?;
        let members = self.describe(effective.membership());
        let leader = self.leader.desk().leader();
        Ok(ClusterView { cluster: self.id, leader, revision, members, settings: settings.into() })
    }

    /// How each member is, as it says itself. Those that do not answer are said so.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] without a quorum.
    pub async fn status(&self) -> Result<ClusterStatus, ReadError> {
        Ok(self.status_of(self.view().await?).await)
    }

    /// The same without a quorum: of the members that this one knows, and nobody is said to lead.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] when its consensus has stopped.
    pub async fn status_here(&self) -> Result<ClusterStatus, ReadError> {
        let mut view = self.seen_here().await?;
        view.leader = None;
        let leaders = view.members.iter_mut().filter(|member| member.role == MemberRole::Leader);
        leaders.for_each(|member| member.role = MemberRole::Voter);
        Ok(self.status_of(view).await)
    }

    async fn status_of(&self, view: ClusterView) -> ClusterStatus {
        let ClusterView { cluster, leader, members, .. } = view;
        let asked = members.into_iter().map(|member| self.ask(member));
        let mut members = join_all(asked).await;
        status::fill_in_lags(&mut members);
        let tolerates_a_loss = status::tolerates_a_loss(&members);
        let incarnation = self.leader.links().incarnation();
        let formats = self.view.local(Fleet::formats).0;
        ClusterStatus { cluster, incarnation, formats, leader, tolerates_a_loss, members }
    }

    async fn ask(&self, member: MemberView) -> MemberStatus {
        if member.id == self.leader.links().own() {
            return status::answered(member, self.own.report().await);
        }
        if member.role == MemberRole::Outside {
            let problem = "it takes no part: it has not started yet, or is being removed";
            return status::silent(member, problem.to_owned());
        }
        let MemberView { name, peer_address, api_address, .. } = member.clone();
        let node = MemberNode { name, peer_address, api_address };
        let report = self.leader.links().report(member.id, &node);
        match timeout(status::ANSWER_TIMEOUT, report).await {
            Ok(Ok(report)) => status::answered(member, report),
            Ok(Err(error)) => status::silent(member, chain(&error)),
            Err(_) => status::silent(member, "no answer in time".to_owned()),
        }
    }

    fn describe(&self, membership: &Membership<u64, MemberNode>) -> Vec<MemberView> {
        let voters: Vec<u64> = membership.voter_ids().collect();
        let leader = self.leader.desk().leader();
        let role = |id: u64| match () {
            () if Some(MemberId(id)) == leader => MemberRole::Leader,
            () if voters.contains(&id) => MemberRole::Voter,
            () => MemberRole::Learner,
        };
        let inside = membership.nodes().map(|(id, node)| member_view(*id, node, role(*id)));
        let outside = self.view.local(|fleet| {
            let known = fleet.members().filter(|member| !member.has_left());
            let outside = known.filter(|member| membership.get_node(&member.id.0).is_none());
            let view = |member: &MemberRecord| {
                member_view(member.id.0, &member.facts.clone().into(), MemberRole::Outside)
            };
            outside.map(view).collect::<Vec<_>>()
        });
        let mut members: Vec<_> = inside.chain(outside).collect();
        members.sort_by_key(|member| member.id);
        members
    }

    /// Whether this member leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leader.leads()
    }

    /// Addresses of the coordinators' links.
    pub fn peer_addresses(&self) -> Vec<String> {
        self.view.local(|fleet| {
            fleet.present_members().map(|member| member.facts.peer_address.clone()).collect()
        })
    }

    /// Addresses at which coordinators take applicants: UDP at the port of the API.
    fn join_addresses(&self) -> Vec<String> {
        self.view.local(|fleet| {
            fleet.present_members().map(|member| member.facts.api_address.clone()).collect()
        })
    }

    /// Takes a coordinator out of the cluster. Its id is never used again.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn remove(
        &self,
        request: RequestId,
        member: Authorized<MemberId>,
    ) -> Result<(), ProposeError> {
        let (member, asker) = member.into_parts();
        tracing::info!(%asker, %member, "asked to remove a coordinator");
        let origin = Origin::Asker(asker);
        let (at, body) = (self.proposer.clock().now(), Body::RemoveMember { member });
        let command = Command { request, at, origin: origin.clone(), body };
        let look = |fleet: &Fleet| match fleet.answer_to(&command) {
            // Asked for again: the member has left by now, and that is what was asked for.
            Some(answer) => answer.map(|_| true),
            None => fleet.require_member(member).map(|()| false),
        };
        if self.view.read(look).await.map_err(|_| ProposeError::Unavailable)?? {
            return Ok(());
        }
        self.leader.call(Call::Remove { request, origin, member }).await?;
        Ok(())
    }

    /// Makes a join token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`ProposeError`], also for a field that cannot be.
    pub async fn create_token(
        &self,
        request: RequestId,
        create: Authorized<TokenCreate>,
    ) -> Result<TokenView, ProposeError> {
        let (create, asker) = create.into_parts();
        tracing::info!(%asker, role = %create.role, "asked for a join token");
        let now = self.proposer.clock().now();
        let seconds = create.ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT);
        if !TOKEN_TTL_S_RANGE.contains(&seconds) {
            let (least, most) = (TOKEN_TTL_S_RANGE.start(), TOKEN_TTL_S_RANGE.end());
            return Err(invalid("ttl_seconds", format!("{seconds} is outside {least} to {most}")));
        }
        let random: [u8; RANDOM_BYTES] = rand::random();
        let token = JoinToken::generate(&random, self.authority);
        let record = TokenRecord {
            role: parse_role(&create.role)?,
            name: create.name.as_deref().map(parse_name).transpose()?,
            expires_at: now.plus_ms(seconds * 1000),
            secret_hash: token.secret_hash(),
            used: false,
        };
        let access = create.access.unwrap_or(AccessRole::Operator);
        let id = token.id();
        let body = Body::CreateToken(Token { id, record: record.clone(), used_by: None, access });
        let command = Command { request, at: now, origin: Origin::Asker(asker), body };
        match self.proposer.propose(command).await? {
            Accepted::Token(id) if id == token.id() => Ok(self.token_view(&token, &record)),
            _ => Err(ProposeError::AnsweredBefore(
                "this request made a token before, and its secret is shown only once: \
                 use a new idempotency key",
            )),
        }
    }

    fn token_view(&self, token: &JoinToken, record: &TokenRecord) -> TokenView {
        TokenView {
            token: token.to_text(),
            role: record.role.to_string(),
            name: record.name.as_ref().map(ToString::to_string),
            expires_at: record.expires_at,
            coordinators: self.join_addresses(),
        }
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn member_view(id: u64, node: &MemberNode, role: MemberRole) -> MemberView {
    MemberView {
        id: MemberId(id),
        name: node.name.clone(),
        peer_address: node.peer_address.clone(),
        api_address: node.api_address.clone(),
        role,
    }
}

fn invalid(field: &str, problem: String) -> ProposeError {
    Refusal::Invalid { field: field.to_owned(), problem }.into()
}

fn parse_role(text: &str) -> Result<Role, ProposeError> {
    match text {
        "agent" => Ok(Role::Agent),
        "coordinator" => Ok(Role::Coordinator),
        "operator" => Ok(Role::Operator),
        _ => Err(invalid("role", format!("`{text}` is none of agent, coordinator and operator"))),
    }
}

fn parse_name(text: &str) -> Result<SubjectName, ProposeError> {
    let parsed = text.parse::<SubjectName>();
    parsed.map_err(|error| invalid("name", error.to_string()))
}
