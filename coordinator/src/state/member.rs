//! Members of the coordinator cluster: who they are, and that no id is ever used twice.

use novacron_protocol::access::AccessRole;
use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{ClusterId, MemberId, RequestId};
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::formats::Formats;
use super::incarnation::FIRST;
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
    /// What its program understands.
    pub formats: Formats,
}

/// A coordinator as the fleet keeps it, also after it left: its id must not come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Identity.
    pub id: MemberId,
    /// What it said of itself.
    pub facts: MemberFacts,
    /// Its part.
    pub part: MemberPart,
}

/// What a coordinator has been to the cluster so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberPart {
    /// It has an id and no more.
    Admitted,
    /// It takes part in Raft: its id stands for its log and vote.
    Entered,
    /// It left, or never came.
    Left,
}

impl MemberRecord {
    /// Whether it left.
    pub fn has_left(&self) -> bool {
        self.part == MemberPart::Left
    }
}

impl Message for MemberRecord {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "member row";
}

impl Fleet {
    pub(super) fn found_cluster(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        cluster: ClusterId,
        member: &MemberFacts,
        operator: &SubjectName,
    ) -> Reply {
        if self.meta.cluster.is_some() {
            return Err(Refusal::Conflict("the cluster was founded before".to_owned()));
        }
        self.meta.cluster = Some(cluster);
        self.meta.incarnation = FIRST;
        self.meta.formats = member.formats.newest;
        self.remember_backups(now);
        let about = About::of(Subject::Cluster).with(Change::made("incarnation", FIRST));
        self.emit(now, EventKind::MemberChanged, about, "the cluster was founded".to_owned());
        let admitted = self.admit_member(now, member)?;
        if let Accepted::Member(member) = admitted {
            self.enter_member(now, member)?;
        }
        self.welcome_operator(now, request, operator, AccessRole::Admin)?;
        Ok(admitted)
    }

    /// Gives a coordinator a new id. One that was admitted under the same name or address and never took part
    /// (it lost its data before it served) gives way; one that did must be removed first, because two programs
    /// with one id would be one voter with two votes.
    pub(super) fn admit_member(&mut self, now: &mut Applying, facts: &MemberFacts) -> Reply {
        facts.formats.check(self.meta.formats).map_err(Refusal::OtherFormats)?;
        let clashes = |other: &&MemberRecord| {
            !other.has_left()
                && (other.facts.name == facts.name
                    || other.facts.peer_address == facts.peer_address)
        };
        let clashing: Vec<MemberRecord> = self.members.values().filter(clashes).cloned().collect();
        if let Some(other) = clashing.iter().find(|other| other.part == MemberPart::Entered) {
            return Err(Refusal::Conflict(format!(
                "member {} has the name `{}` and the address {}: remove it first",
                other.id, other.facts.name, other.facts.peer_address
            )));
        }
        for other in clashing {
            let message =
                format!("member {} gives way to another of its name or address", other.id);
            self.set_part(now, other.id, MemberPart::Left, message);
        }
        let present = self.members.values().filter(|member| !member.has_left()).count();
        if present >= MEMBERS_MAX || self.members.len() >= MEMBERS_EVER_MAX {
            return Err(Refusal::Full(format!("a cluster has at most {MEMBERS_MAX} coordinators")));
        }
        let id = self.meta.member_last.next();
        self.meta.member_last = id;
        let part = MemberPart::Admitted;
        let record = MemberRecord { id, facts: facts.clone(), part };
        // Without addresses, which are for readers of the audit log.
        let about = About::of(Subject::Member(id)).with(Change::made("part", part));
        self.members.insert(id, record);
        let message = format!("coordinator {} is admitted as member {id}", facts.name);
        self.emit(now, EventKind::MemberChanged, about, message);
        Ok(Accepted::Member(id))
    }

    pub(super) fn enter_member(&mut self, now: &mut Applying, member: MemberId) -> Reply {
        self.require_member(member)?;
        // It was admitted when the cluster may have worked with older formats.
        let formats = self.members.get(&member).map(|row| row.facts.formats);
        let understood = formats.map_or(Ok(()), |formats| formats.check(self.meta.formats));
        understood.map_err(Refusal::OtherFormats)?;
        self.set_part(now, member, MemberPart::Entered, format!("member {member} takes part"));
        Ok(Accepted::Member(member))
    }

    fn set_part(&mut self, now: &mut Applying, id: MemberId, part: MemberPart, message: String) {
        let before = self.members.update(&id, |member| std::mem::replace(&mut member.part, part));
        let Some(before) = before.filter(|before| *before != part) else { return };
        let about = About::of(Subject::Member(id)).with(Change::field("part", before, part));
        self.emit(now, EventKind::MemberChanged, about, message);
    }

    /// Whether there is such a member, and it has not left.
    ///
    /// # Errors
    /// [`Refusal::NoSuchMember`], [`Refusal::MemberIdUsed`].
    pub fn require_member(&self, member: MemberId) -> Result<(), Refusal> {
        match self.members.get(&member) {
            None => Err(Refusal::NoSuchMember(member)),
            Some(record) if record.has_left() => Err(Refusal::MemberIdUsed(member)),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn remove_member(&mut self, now: &mut Applying, member: MemberId) -> Reply {
        self.require_member(member)?;
        self.set_part(now, member, MemberPart::Left, format!("member {member} left"));
        Ok(Accepted::Member(member))
    }
}
