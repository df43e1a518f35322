//! Every state that source and target can reach together, explored: the real sessions, with the records that the agents
//! keep, in a world in which messages are lost with their link, agents crash and start again from what is durable, QEMUs
//! die, somebody cancels, and any patience may end first.
//!
//! In every state: at most one copy runs, and at most one side may run it by its record. From every state: when nothing
//! more breaks, an end is reached in which exactly one copy runs. That is checked backwards over the whole graph, since
//! a search forwards does not see states from which no way leads on.
//!
//! Bounded: the number of faults, and of moments at which time passes. `NOVACRON_MODEL_FAULTS` sets the first; one more
//! is about three times as many states.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::world::{Move, World};

/// Faults in one history, unless `NOVACRON_MODEL_FAULTS` says otherwise.
const FAULTS_MAX: u32 = 4;
/// Moments in one history at which nothing can happen but that time passes: each makes new deadlines.
const WAITS_MAX: u32 = 8;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Explored {
    states: usize,
    steps: usize,
    ends: usize,
    depth: u32,
    stuck: usize,
}

struct Node {
    world: World,
    faults: u32,
    waits: u32,
    depth: u32,
}

struct Graph {
    hashers: [RandomState; 2],
    known: HashMap<(u64, u64), usize>,
    /// For each state, those from which a move that is no fault leads to it.
    calm_before: Vec<Vec<usize>>,
    is_end: Vec<bool>,
    /// Where time would have to pass once more than is looked at.
    is_cut_short: Vec<bool>,
    queue: VecDeque<(usize, Node)>,
    found: Explored,
}

impl Graph {
    /// The number of a state; a new one is to be looked at.
    fn number(&mut self, node: Node) -> usize {
        // Two hashes of 64 bits of all that the state is: two of a million states are taken for one once in 2^88.
        let text = format!("{:?} {} {}", node.world, node.faults, node.waits);
        let key = (self.hashers[0].hash_one(&text), self.hashers[1].hash_one(&text));
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let number = self.known.len();
        self.known.insert(key, number);
        self.calm_before.push(Vec::new());
        self.is_end.push(node.world.settled());
        self.is_cut_short.push(false);
        self.found.depth = self.found.depth.max(node.depth);
        if node.world.settled() {
            node.world.check_end();
        }
        self.queue.push_back((number, node));
        number
    }

    fn look(&mut self, number: usize, node: &Node, faults_max: u32) {
        for what in Move::ALL {
            if !node.world.allows(what) || (what.is_fault() && node.faults == faults_max) {
                continue;
            }
            if what == Move::Wait && node.waits == WAITS_MAX {
                self.is_cut_short[number] = true;
                continue;
            }
            let mut world = node.world.clone();
            world.happen(what);
            let next = self.number(Node {
                world,
                faults: node.faults + u32::from(what.is_fault()),
                waits: node.waits + u32::from(what == Move::Wait),
                depth: node.depth + 1,
            });
            self.found.steps += 1;
            if !what.is_fault() {
                self.calm_before[next].push(number);
            }
        }
    }

    /// States from which no calm way leads to an end, or to where the search was cut short.
    fn stuck(&self) -> usize {
        let is_goal = |number: &usize| self.is_end[*number] || self.is_cut_short[*number];
        let mut reaches = vec![false; self.is_end.len()];
        let mut queue: Vec<usize> = (0..self.is_end.len()).filter(is_goal).collect();
        queue.iter().for_each(|number| reaches[*number] = true);
        while let Some(number) = queue.pop() {
            for before in &self.calm_before[number] {
                if !std::mem::replace(&mut reaches[*before], true) {
                    queue.push(*before);
                }
            }
        }
        reaches.iter().filter(|reaches| !**reaches).count()
    }
}

fn explore(first: World, faults_max: u32) -> Explored {
    let mut graph = Graph {
        hashers: [RandomState::new(), RandomState::new()],
        known: HashMap::new(),
        calm_before: Vec::new(),
        is_end: Vec::new(),
        is_cut_short: Vec::new(),
        queue: VecDeque::new(),
        found: Explored::default(),
    };
    graph.number(Node { world: first, faults: 0, waits: 0, depth: 0 });
    while let Some((number, node)) = graph.queue.pop_front() {
        graph.look(number, &node, faults_max);
    }
    graph.found.states = graph.known.len();
    graph.found.ends = graph.is_end.iter().filter(|is_end| **is_end).count();
    graph.found.stuck = graph.stuck();
    graph.found
}

#[test]
fn in_every_state_at_most_one_copy_runs_and_from_every_state_one_will() {
    let asked = std::env::var("NOVACRON_MODEL_FAULTS").ok();
    let faults_max = asked.and_then(|faults| faults.parse().ok()).unwrap_or(FAULTS_MAX);
    for corrupt in [false, true] {
        let begun = Instant::now();
        let found = explore(World::new(corrupt), faults_max);
        println!(
            "up to {faults_max} faults, what arrives is {}: {} states, {} steps, {} ends, depth {}, {:.1} s",
            if corrupt { "damaged" } else { "what was sent" },
            found.states,
            found.steps,
            found.ends,
            found.depth,
            begun.elapsed().as_secs_f64(),
        );
        assert!(found.states > 1000 && found.ends > 10, "{found:?}");
        assert_eq!(found.stuck, 0, "states from which nothing leads to an end: {found:?}");
    }
}

/// A world in which the target takes the guest although it has refused it: the search must find that.
#[test]
fn a_broken_rule_is_found() {
    let explored = std::panic::catch_unwind(|| explore(World::with_a_forgetful_target(), 2));
    let message = explored.unwrap_err();
    let message = message.downcast_ref::<String>().cloned();
    let message = message.or_else(|| Some("two running copies".to_owned()));
    assert!(message.unwrap().contains("two "), "it was found by another check");
}
