//! A member that hears nobody does not end the leader that all others hear.

use super::*;
use crate::planted::Planted;
use crate::scenario::Weather;

/// Long enough for several elections.
const A_WHILE_MS: u64 = 15_000;

fn calm() -> Scenario {
    let scenario = Scenario::new(1, 1, Planted::Nothing);
    let (members, faults, weather) = (3, Vec::new(), Weather::FAIR);
    Scenario {
        members,
        faults,
        weather,
        disk_ms_max: 1,
        is_watched: true,
        changes_members: false,
        corrects_usage: false,
        hours_pass_at_ms: None,
        ..scenario
    }
}

impl World {
    fn live_on(&mut self, time_ms: u64) {
        let until_ms = self.now_ms + time_ms;
        while self.now_ms < until_ms {
            assert!(self.step().unwrap(), "{:?}", self.oracle.violation());
        }
    }

    /// Term and leader, as most members see it.
    fn leader(&self) -> (u64, u64) {
        let seen = self.members.iter().filter_map(|member| match member.face() {
            Some(Face::Serving { metrics, .. }) => {
                let metrics = metrics.borrow();
                Some((metrics.current_term, metrics.current_leader?))
            }
            _ => None,
        });
        let seen: Vec<_> = seen.collect();
        let said = |one: &(u64, u64)| seen.iter().filter(|other| *other == one).count();
        *seen.iter().find(|one| said(one) > self.members.len() / 2).expect("most have one leader")
    }
}

#[test]
fn whoever_alone_does_not_hear_the_leader_does_not_end_it() {
    for hears_nobody_only in [false, true] {
        let mut world = World::new(&calm(), false);
        world.members.iter_mut().for_each(|member| member.start(0).unwrap());
        world.live_on(A_WHILE_MS);
        let before = world.leader();
        let lonely = (1..=3).find(|id| *id != before.1).unwrap();
        let others = (1..=3).filter(|id| *id != lonely);
        let mut ways: BTreeSet<(u64, u64)> = others.map(|other| (other, lonely)).collect();
        if !hears_nobody_only {
            ways.extend(ways.clone().into_iter().map(|(from, to)| (to, from)));
        }
        world.network.cut(&ways);
        world.live_on(A_WHILE_MS);
        world.network.mend(&ways);
        world.live_on(A_WHILE_MS);
        assert_eq!(world.leader(), before, "hears nobody only: {hears_nobody_only}");
    }
}
