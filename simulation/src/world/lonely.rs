//! A member that hears nobody does not end the leader that all others hear.

use super::*;

/// Long enough for several elections.
const A_WHILE_MS: u64 = 15_000;

#[test]
fn whoever_alone_does_not_hear_the_leader_does_not_end_it() {
    for hears_nobody_only in [false, true] {
        let mut world = calm::world(1);
        world.live_on(A_WHILE_MS);
        let before = world.leader().expect("most have one leader");
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
        assert_eq!(world.leader(), Some(before), "hears nobody only: {hears_nobody_only}");
    }
}
