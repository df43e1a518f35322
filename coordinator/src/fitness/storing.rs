//! Whether so many members can store that a change can be acknowledged. Pure.
//!
//! A member says that it has no room: when it is asked, and when it declines entries. One that says nothing twice in a
//! row cannot be counted on either, but that alone stops nothing: a quorum that does not answer is found out by asking
//! it, and says so in its own words.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::ids::MemberId;

use super::Unfit;

/// How often in a row a member may be silent before it is not counted on: one answer may be late.
const SILENCES_MAX: u32 = 2;

/// What is known of another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    has_room: bool,
    /// How often in a row it has not answered since.
    silences: u32,
}

/// What is known of the others that vote.
#[derive(Debug, Clone, Default)]
pub(super) struct Storing {
    voters: usize,
    others: BTreeMap<MemberId, Heard>,
}

impl Storing {
    /// The others that vote were asked; `answers` says who has room, of those that answered.
    pub(super) fn note(&mut self, others: &BTreeSet<MemberId>, answers: &BTreeMap<MemberId, bool>) {
        self.voters = others.len() + 1;
        self.others.retain(|member, _| others.contains(member));
        for member in others {
            let answer = answers.get(member);
            let heard = self.others.entry(*member).or_insert(Heard { has_room: true, silences: 0 });
            *heard = match answer {
                Some(has_room) => Heard { has_room: *has_room, silences: 0 },
                None => Heard { silences: heard.silences.saturating_add(1), ..*heard },
            };
        }
    }

    /// A member declined something for want of room.
    pub(super) fn declined(&mut self, member: MemberId) {
        // Who does not vote is not counted, and not known here.
        if let Some(heard) = self.others.get_mut(&member) {
            *heard = Heard { has_room: false, silences: 0 };
        }
    }

    /// Whether somebody has said that it has no room: then it matters what the others say.
    pub(super) fn is_short(&self) -> bool {
        self.others.values().any(|heard| !heard.has_room)
    }

    /// Whether a majority can store, this member being one that can.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        let can_store = 1 + self.others.values().filter(|heard| heard.can_store()).count();
        if !self.is_short() || can_store > self.voters / 2 {
            return Ok(());
        }
        // At most as many as a cluster has.
        let (can_store, voters) = (can_store as u32, self.voters as u32);
        Err(Unfit::OthersNoRoom { can_store, voters })
    }
}

impl Heard {
    fn can_store(&self) -> bool {
        self.has_room && self.silences < SILENCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a cluster of three, what is known after each of these rounds; `None` is no answer.
    fn storing(rounds: &[[Option<bool>; 2]]) -> Storing {
        let others = BTreeSet::from([MemberId(2), MemberId(3)]);
        let mut storing = Storing::default();
        for round in rounds {
            let answers = others.iter().zip(round);
            let answers = answers.filter_map(|(member, has_room)| Some((*member, (*has_room)?)));
            storing.note(&others, &answers.collect());
        }
        storing
    }

    const ROOM: Option<bool> = Some(true);
    const NONE: Option<bool> = Some(false);

    #[test]
    fn a_majority_without_room_stores_nothing() {
        assert!(Storing::default().check().is_ok(), "nobody was asked");
        assert!(storing(&[[ROOM, NONE]]).check().is_ok());
        let short = storing(&[[NONE, NONE]]).check();
        assert_eq!(short, Err(Unfit::OthersNoRoom { can_store: 1, voters: 3 }));
        assert!(storing(&[[NONE, NONE], [ROOM, NONE]]).check().is_ok(), "there is room again");
    }

    #[test]
    fn who_is_silent_counts_once_more_and_alone_stops_nothing() {
        assert!(storing(&[[None, None]; 9]).check().is_ok(), "no quorum, and no want of room");
        assert!(storing(&[[NONE, ROOM], [NONE, None]]).check().is_ok());
        assert!(storing(&[[NONE, ROOM], [NONE, None], [NONE, None]]).check().is_err());
        // It had no room when it was heard last.
        assert!(storing(&[[NONE, NONE], [None, NONE]]).check().is_err());
    }

    #[test]
    fn a_decline_tells_at_once_and_who_does_not_vote_tells_nothing() {
        let mut three = storing(&[[ROOM, ROOM]]);
        three.declined(MemberId(9));
        three.declined(MemberId(2));
        assert!(three.is_short() && three.check().is_ok());
        three.declined(MemberId(3));
        assert!(three.check().is_err());
        // Those two have left.
        three.note(&BTreeSet::new(), &BTreeMap::new());
        assert!(!three.is_short() && three.check().is_ok());
    }
}
