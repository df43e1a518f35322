//! Members of the coordinator cluster: who they are, and that no id is ever used twice.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{ClusterId, MemberId};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::event::About;
use super::fleet::{Applying, Fleet};
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Coordinators of one cluster at a time.
pub const MEMBERS_MAX: usize = 7;

/// Coordinators that a cluster may ever have had; their ids are remembered.
pub const MEMBERS_EVER_MAX: usize = 10_000;

/// What a coordinator says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// Name, as in its certificate.
    pub name: String,
    /// Address for members and agents.
    pub peer_address: String,
    /// Address of its API.
    pub api_address: String,
}

/// A coordinator as the fleet keeps it, also after it left: its id must not come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Identity.
    pub id: MemberId,
    /// What it said of itself.
    pub facts: MemberFacts,
    /// Whether it left.
    pub has_left: bool,
}

impl Message for MemberRecord {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "member row";
}

impl Fleet {
    pub(super) fn found_cluster(
        &mut self,
        now: &mut Applying,
        cluster: ClusterId,
        member: &MemberFacts,
    ) -> Reply {
        if self.meta.cluster.is_some() {
            return Err(Refusal::Conflict("the cluster was founded before".to_owned()));
        }
        self.meta.cluster = Some(cluster);
        self.admit_member(now, member)
    }

    /// Gives a coordinator an id. One that asks again (same name, same addresses) keeps its id.
    pub(super) fn admit_member(&mut self, now: &mut Applying, facts: &MemberFacts) -> Reply {
        let present = || self.members.values().filter(|member| !member.has_left);
        if let Some(member) = present().find(|member| member.facts == *facts) {
            return Ok(Accepted::Member(member.id));
        }
        let clashes = |other: &&MemberRecord| {
            other.facts.name == facts.name || other.facts.peer_address == facts.peer_address
        };
        if let Some(other) = present().find(clashes) {
            return Err(Refusal::Conflict(format!(
                "member {} has the name `{}` and the address {}; remove it first",
                other.id, other.facts.name, other.facts.peer_address
            )));
        }
        if present().count() >= MEMBERS_MAX || self.members.len() >= MEMBERS_EVER_MAX {
            return Err(Refusal::Full(format!("a cluster has at most {MEMBERS_MAX} coordinators")));
        }
        let id = self.meta.member_last.next();
        self.meta.member_last = id;
        self.members.insert(id, MemberRecord { id, facts: facts.clone(), has_left: false });
        let message = format!("coordinator {} joined as member {id}", facts.name);
        self.emit(now, EventKind::MemberChanged, About::default(), message);
        Ok(Accepted::Member(id))
    }

    pub(super) fn remove_member(&mut self, now: &mut Applying, member: MemberId) -> Reply {
        let is_here = self.members.get(&member).is_some_and(|member| !member.has_left);
        if !is_here {
            return Err(Refusal::NoSuchMember(member));
        }
        self.members.update(&member, |member| member.has_left = true);
        let message = format!("member {member} left");
        self.emit(now, EventKind::MemberChanged, About::default(), message);
        Ok(Accepted::Member(member))
    }
}
