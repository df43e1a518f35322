//! Which region somebody should turn to: the nearest one that can take machines, as far as rules allow.
//!
//! A region counts as many times as far as its nodes are more than those that take machines: with half of them it is twice
//! as far, so a sick region next door gives way to a well one behind it. What cannot be chosen is listed behind what can,
//! with the reason. Pure: whoever asks has looked at the fleet.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use novacron_protocol::ids::{ProjectName, RegionCode};
use novacron_protocol::node::{NodeState, Scheduling};
use novacron_protocol::region::RegionStatus;

use crate::state::Fleet;
use crate::state::residency::RuleBroken;

/// A region as far as a route depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub region: RegionCode,
    /// Milliseconds there and back, if somebody said so.
    pub latency_ms: Option<u32>,
    /// Its nodes.
    pub nodes: u32,
    /// Those that answer and take machines.
    pub nodes_ready: u32,
    /// Whether it takes machines.
    pub status: RegionStatus,
    /// The rule of residency that keeps the project's machines out, in words.
    pub forbidden: Option<String>,
}

/// Why a region is not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A rule of the project.
    Forbidden(String),
    /// It takes no machines.
    Draining,
    /// No node stands in it.
    NoNode,
    /// None of its nodes answers and takes machines.
    NoneReady,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Forbidden(rule) => rule,
            Self::Draining => "it is being drained and takes no new machines",
            Self::NoNode => "no node stands in it",
            Self::NoneReady => "none of its nodes answers and takes machines",
        })
    }
}

impl Candidate {
    /// Why it is not chosen; what is a rule comes before what passes.
    pub fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self { forbidden: Some(rule), .. } => Some(Obstacle::Forbidden(rule.clone())),
            Self { status: RegionStatus::Draining, .. } => Some(Obstacle::Draining),
            Self { nodes: 0, .. } => Some(Obstacle::NoNode),
            Self { nodes_ready: 0, .. } => Some(Obstacle::NoneReady),
            _ => None,
        }
    }

    /// What can be chosen first, then what is nearer for its health, then by code. One that nobody measured is behind all
    /// that were. Of what cannot be chosen, which has no health to divide by, the nearer is first.
    fn preference(&self, other: &Self) -> Ordering {
        let is_out = |one: &Self| one.obstacle().is_some();
        let by_health = match (is_out(self), is_out(other)) {
            (false, false) => self.by_health(other),
            (one, two) => one.cmp(&two),
        };
        let latency = |one: &Self| (one.latency_ms.is_none(), one.latency_ms);
        by_health
            .then_with(|| latency(self).cmp(&latency(other)))
            .then_with(|| self.region.cmp(&other.region))
    }

    fn by_health(&self, other: &Self) -> Ordering {
        let by_distance = match (self.latency_ms, other.latency_ms) {
            (Some(near), Some(far)) => self.distance(near, other).cmp(&other.distance(far, self)),
            (near, far) => near.is_none().cmp(&far.is_none()),
        };
        by_distance.then_with(|| self.distance(0, other).cmp(&other.distance(0, self)))
    }

    /// How far it is, brought to one denominator with another. A millisecond more for each, so that health counts at home,
    /// too: at most 60,001 · 2³² · 2³² < 2⁸⁰.
    fn distance(&self, latency_ms: u32, other: &Self) -> u128 {
        let ms = u128::from(latency_ms) + 1;
        ms * u128::from(self.nodes) * u128::from(other.nodes_ready)
    }
}

/// Regions in the order of preference; what cannot be chosen is behind what can.
pub fn route(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(Candidate::preference);
    candidates
}

/// All regions as they are seen from one, for machines of a project. One look at every node: 10,000 at most, some 0.2 µs
/// each.
pub fn candidates(
    fleet: &Fleet,
    from: &RegionCode,
    project: Option<&ProjectName>,
) -> Vec<Candidate> {
    let mut counts: BTreeMap<&RegionCode, (u32, u32)> = BTreeMap::new();
    for node in fleet.nodes() {
        let Some(region) = &node.region else { continue };
        let takes_machines = node.state == NodeState::Ready
            && fleet.scheduling(&node.name) == Scheduling::Active
            && !node.facts.qemu_version.is_empty();
        let (nodes, ready) = counts.entry(region).or_default();
        *nodes += 1;
        *ready += u32::from(takes_machines);
    }
    let candidate = |region: &crate::state::region::Region| {
        let code = &region.code;
        let (nodes, nodes_ready) = counts.get(code).copied().unwrap_or_default();
        let rule = project.and_then(|project| fleet.check_residency_in(Some(code), project).err());
        Candidate {
            region: code.clone(),
            latency_ms: fleet.latency_ms(from, code),
            nodes,
            nodes_ready,
            status: region.status,
            forbidden: rule.as_ref().map(in_words),
        }
    };
    fleet.regions_after(None).map(candidate).collect()
}

/// A rule as it is said of a region rather than of a host in it.
fn in_words(rule: &RuleBroken) -> String {
    match rule {
        RuleBroken::Outside { project, allowed, .. } => {
            format!("machines of project `{project}` must stand in region {allowed}")
        }
        RuleBroken::NotCertified { project, missing, .. } => {
            format!("machines of project `{project}` need a region with {missing}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use novacron_protocol::region::{Residency, ResidencyRules};
    use proptest::prelude::*;

    use super::*;
    use crate::state::Body;
    use crate::state::project::{ProjectEdit, ProjectOrder};
    use crate::state::region::{RegionEdit, RegionOrder};
    use crate::state::testing::{Scene, name};

    /// Code, latency, nodes and those that are ready.
    fn region(code: &str, latency_ms: Option<u32>, nodes: u32, nodes_ready: u32) -> Candidate {
        Candidate {
            region: code.parse().unwrap(),
            latency_ms,
            nodes,
            nodes_ready,
            status: RegionStatus::Active,
            forbidden: None,
        }
    }

    fn order(candidates: Vec<Candidate>) -> Vec<String> {
        route(candidates).into_iter().map(|one| one.region.to_string()).collect()
    }

    #[test]
    fn the_nearest_is_first_and_a_sick_one_counts_as_farther() {
        let near = |eu_ready| {
            let (eu, us) = (region("eu", Some(10), 4, eu_ready), region("us", Some(30), 4, 4));
            order(vec![us, eu, region("ap", Some(200), 4, 4)])
        };
        assert_eq!(near(4), ["eu", "us", "ap"]);
        // (10 + 1) · 4/2 = 22 < 31
        assert_eq!(near(2), ["eu", "us", "ap"]);
        // (10 + 1) · 4/1 = 44 > 31
        assert_eq!(near(1), ["us", "eu", "ap"]);
        assert_eq!(near(0), ["us", "ap", "eu"]);
    }

    #[test]
    fn at_home_it_is_nearest_as_long_as_it_is_well() {
        let home = |ready| order(vec![region("a", Some(5), 9, 9), region("b", Some(0), 9, ready)]);
        assert_eq!(home(9), ["b", "a"]);
        assert_eq!(home(2), ["b", "a"]);
        assert_eq!(home(1), ["a", "b"]);
    }

    #[test]
    fn what_nobody_measured_is_last_and_ties_go_by_health_and_code() {
        let all = vec![
            region("z", None, 2, 2),
            region("y", None, 2, 1),
            region("b", Some(60_000), 1, 1),
            region("a", Some(60_000), 2, 2),
        ];
        assert_eq!(order(all), ["a", "b", "z", "y"]);
    }

    #[test]
    fn what_cannot_be_chosen_says_why_and_a_rule_before_what_passes() {
        let draining = Candidate { status: RegionStatus::Draining, ..region("a", Some(0), 1, 1) };
        assert_eq!(draining.obstacle(), Some(Obstacle::Draining));
        let forbidden = Candidate { forbidden: Some("no".to_owned()), ..draining.clone() };
        assert_eq!(forbidden.obstacle(), Some(Obstacle::Forbidden("no".to_owned())));
        assert_eq!(region("a", Some(0), 0, 0).obstacle(), Some(Obstacle::NoNode));
        assert_eq!(region("a", Some(0), 2, 0).obstacle(), Some(Obstacle::NoneReady));
        let all = vec![draining, forbidden, region("b", Some(900), 1, 1)];
        assert_eq!(order(all)[0], "b");
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let numbers = (0_u32..9, 0_u32..9, proptest::option::of(0_u32..=60_000));
        (numbers, any::<bool>(), any::<bool>()).prop_map(
            |((nodes, ready, latency_ms), is_drained, is_forbidden)| Candidate {
                status: if is_drained { RegionStatus::Draining } else { RegionStatus::Active },
                forbidden: is_forbidden.then(|| "a rule".to_owned()),
                ..region("r", latency_ms, nodes, ready.min(nodes))
            },
        )
    }

    proptest! {
        #[test]
        fn a_route_leads_to_the_best_that_may_and_can(
            mut all in proptest::collection::vec(candidate(), 0..12),
        ) {
            for (number, one) in all.iter_mut().enumerate() {
                one.region = format!("r{number}").parse().unwrap();
            }
            let found = route(all.clone());
            prop_assert_eq!(found.len(), all.len());
            let codes = |list: &[Candidate]| {
                list.iter().map(|one| one.region.clone()).collect::<BTreeSet<_>>()
            };
            prop_assert_eq!(codes(&found), codes(&all), "each once");
            all.reverse();
            prop_assert_eq!(&route(all), &found, "whatever the order in which they were looked at");
            // Told from the fields alone, not by `obstacle`.
            let can = |one: &Candidate| {
                one.forbidden.is_none() && one.status == RegionStatus::Active && one.nodes_ready > 0
            };
            let chosen = found.iter().take_while(|one| one.obstacle().is_none()).count();
            prop_assert!(found[..chosen].iter().all(can));
            prop_assert!(!found[chosen..].iter().any(can));
            // As exact fractions, none of those that can be chosen is nearer than the first.
            let far = |one: &Candidate| {
                one.latency_ms.map(|ms| f64::from(ms + 1) * f64::from(one.nodes) / f64::from(one.nodes_ready))
            };
            if let Some(first) = found[..chosen].first().and_then(far) {
                let others = found[..chosen].iter().filter_map(far);
                prop_assert!(others.into_iter().all(|other| first <= other * (1.0 + 1e-9)));
            } else {
                prop_assert!(found[..chosen].iter().all(|one| one.latency_ms.is_none()));
            }
        }
    }

    fn make(scene: &mut Scene, code: &str) {
        let (region, rules) = (code.parse().unwrap(), ResidencyRules::default());
        let (name, certifications) = (String::new(), BTreeSet::new());
        let order = RegionOrder::Create { region, name, certifications, rules };
        scene.apply(Body::Regions(order)).unwrap();
    }

    fn measure(scene: &mut Scene, from: &str, to: &[(&str, u32)]) {
        let latencies_ms = to.iter().map(|(code, ms)| (code.parse().unwrap(), *ms)).collect();
        let (region, edit) = (from.parse().unwrap(), RegionEdit::default());
        let order = RegionOrder::ChangeWithLatencies { region, edit, latencies_ms };
        scene.apply(Body::Regions(order)).unwrap();
    }

    fn routed(scene: &Scene, project: Option<&ProjectName>) -> Vec<(String, Option<String>)> {
        let found = route(candidates(&scene.fleet, &"eu".parse().unwrap(), project));
        let shown = |one: Candidate| {
            (one.region.to_string(), one.obstacle().map(|obstacle| obstacle.to_string()))
        };
        found.into_iter().map(shown).collect()
    }

    fn chosen(scene: &Scene, project: Option<&ProjectName>) -> Vec<String> {
        let usable = routed(scene, project).into_iter().filter(|(_, obstacle)| obstacle.is_none());
        usable.map(|(code, _)| code).collect()
    }

    #[test]
    fn a_fleet_is_routed_by_its_nodes_and_its_rules() {
        let mut scene = Scene::new();
        for code in ["ap", "eu", "us"] {
            make(&mut scene, code);
            for number in 1..=2 {
                let node = format!("{code}-{number}");
                scene.join(&node, 16);
                let (node, region) = (name(&node), Some(code.parse().unwrap()));
                scene.apply(Body::Regions(RegionOrder::Assign { node, region })).unwrap();
            }
        }
        make(&mut scene, "moon");
        measure(&mut scene, "eu", &[("us", 80), ("moon", 1)]);
        // Said from there only: the way is the same.
        measure(&mut scene, "ap", &[("eu", 150)]);
        assert_eq!(chosen(&scene, None), ["eu", "us", "ap"]);
        assert_eq!(
            routed(&scene, None)[3],
            ("moon".to_owned(), Some("no node stands in it".to_owned()))
        );

        // Suspect is enough: nobody is sent where an agent is late.
        scene.set_node("eu-1", NodeState::Suspect);
        scene.set_node("eu-2", NodeState::Down);
        assert_eq!(chosen(&scene, None), ["us", "ap"]);
        scene.set_node("eu-2", NodeState::Ready);
        assert_eq!(chosen(&scene, None), ["eu", "us", "ap"]);
        scene.apply(Body::DrainNode { node: name("eu-2"), options: Default::default() }).unwrap();
        assert_eq!(chosen(&scene, None), ["us", "ap"]);

        let bank = scene.make_project("bank", Default::default());
        let residency = Some(Residency {
            regions: BTreeSet::from(["ap".parse().unwrap(), "eu".parse().unwrap()]),
            certifications: BTreeSet::new(),
        });
        let edit = ProjectEdit { residency, ..ProjectEdit::default() };
        scene.apply(Body::Projects(ProjectOrder::Change { project: bank.clone(), edit })).unwrap();
        assert_eq!(chosen(&scene, Some(&bank)), ["ap"]);
        let us = routed(&scene, Some(&bank)).into_iter().find(|(code, _)| code == "us").unwrap();
        let words = "machines of project `bank` must stand in region `ap`, `eu`";
        assert_eq!(us.1.as_deref(), Some(words));
    }
}
