//! A world without faults, in which a test says what goes wrong.

use super::*;
use crate::planted::Planted;
use crate::scenario::Weather;

/// Three members and a client on a network that loses nothing.
pub(super) fn world(seed: u64) -> World {
    let scenario = Scenario::new(seed, 1, Planted::Nothing);
    let (members, faults, weather) = (3, Vec::new(), Weather::FAIR);
    let scenario = Scenario {
        members,
        faults,
        weather,
        disk_ms_max: 1,
        is_watched: true,
        changes_members: false,
        corrects_usage: false,
        hours_pass_at_ms: None,
        ..scenario
    };
    let mut world = World::new(&scenario, false);
    world.members.iter_mut().for_each(|member| member.start(0).unwrap());
    world
}

impl World {
    /// Time passes.
    pub(super) fn live_on(&mut self, time_ms: u64) {
        let until_ms = self.now_ms + time_ms;
        while self.now_ms < until_ms {
            assert!(self.step().unwrap(), "{:?}", self.oracle.violation());
        }
    }

    /// Term and leader, as most members see it, if they do.
    pub(super) fn leader(&self) -> Option<(u64, u64)> {
        let seen = self.members.iter().filter_map(|member| match member.face() {
            Some(Face::Serving { metrics, .. }) => {
                let metrics = metrics.borrow();
                Some((metrics.current_term, metrics.current_leader?))
            }
            _ => None,
        });
        let seen: Vec<_> = seen.collect();
        let said = |one: &(u64, u64)| seen.iter().filter(|other| *other == one).count();
        seen.iter().find(|one| said(one) > self.members.len() / 2).copied()
    }
}
