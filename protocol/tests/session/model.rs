//! Every state that source and target can reach together, explored: the real sessions, with the records that the agents
//! keep, in a world in which messages are lost with their link, agents crash and start again from what is durable (also
//! in the middle of a write), disks fail, QEMUs die, somebody cancels, the coordinator gives up, and any patience may end
//! first. On a *wild* network messages are also repeated, overtake each other and outlive their connection.
//!
//! What is looked at in every state, at every end and from every state on is in [`Property`]. The last of them, that
//! there is an end on every way on which nothing more breaks, is found backwards over the whole graph: a search forwards
//! does not see states from which no way leads on, nor ways that go round for ever.
//!
//! Bounded: the number of faults, and of moments at which time passes. `NOVACRON_MODEL_FAULTS` sets the first; one more
//! is about six times as many states. `cargo xtask model` asks for four.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write;
use std::time::Instant;

use xxhash_rust::xxh3::Xxh3;

use crate::world::{BrokenRule, Conditions, Move, Property, World};

/// Faults in one history, unless `NOVACRON_MODEL_FAULTS` says otherwise.
const FAULTS_MAX: u32 = 3;
/// Moments in one history at which nothing can happen but that time passes: each makes new deadlines.
const WAITS_MAX: u32 = 12;

/// What was found.
#[derive(Debug, Default)]
struct Explored {
    states: usize,
    steps: usize,
    ends: usize,
    /// States at which time would have had to pass more often than was looked at.
    cut_short: usize,
    depth: u32,
    /// For each property that does not hold, the shortest way to where it does not.
    violations: BTreeMap<Property, Vec<Move>>,
}

struct Node {
    world: World,
    faults: u32,
    waits: u32,
    depth: u32,
}

/// What is remembered of a state that was reached.
struct Mark {
    /// The state before it on the shortest way, and the step from there.
    before: Option<(u32, Move)>,
    /// An end, a violation, or where the search was cut short: nothing need follow.
    is_goal: bool,
}

struct Graph {
    known: HashMap<u128, u32>,
    marks: Vec<Mark>,
    /// Steps that are no faults.
    calm: Vec<(u32, u32)>,
    queue: VecDeque<(u32, Node)>,
    found: Explored,
}

/// Feeds text into a hash without keeping it.
struct Hashing(Xxh3);

impl Write for Hashing {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Node {
    /// 128 bits of all that the state is: two of ten million states are taken for one once in 2^82.
    fn key(&self) -> u128 {
        let mut hashing = Hashing(Xxh3::new());
        write!(hashing, "{:?} {} {}", self.world, self.faults, self.waits).unwrap();
        hashing.0.digest128()
    }
}

impl Graph {
    /// The number of a state; a new one is to be looked at, unless something is wrong in it already.
    fn number(&mut self, node: Node, before: Option<(u32, Move)>, watched: &[Property]) -> u32 {
        let next = u32::try_from(self.known.len()).expect("fewer states than 2^32");
        let number = *self.known.entry(node.key()).or_insert(next);
        if number != next {
            return number;
        }
        let is_wrong = watched.iter().any(|property| node.world.wrong().contains(property));
        let is_end = node.world.settled();
        self.marks.push(Mark { before, is_goal: is_end || is_wrong });
        self.found.depth = self.found.depth.max(node.depth);
        self.found.ends += usize::from(is_end);
        if is_wrong {
            self.violated(node.world.wrong(), number);
        } else {
            self.queue.push_back((number, node));
        }
        number
    }

    fn violated(&mut self, wrong: &BTreeSet<Property>, number: u32) {
        let way = self.way_to(number);
        for property in wrong {
            self.found.violations.entry(*property).or_insert_with(|| way.clone());
        }
    }

    fn way_to(&self, mut number: u32) -> Vec<Move> {
        let mut way = Vec::new();
        while let Some((before, what)) = self.marks[number as usize].before {
            way.push(what);
            number = before;
        }
        way.reverse();
        way
    }

    fn look(&mut self, number: u32, node: &Node, faults_max: u32, watched: &[Property]) {
        for what in Move::ALL {
            if !node.world.allows(what) || (what.is_fault() && node.faults == faults_max) {
                continue;
            }
            if what == Move::Wait && node.waits == WAITS_MAX {
                self.marks[number as usize].is_goal = true;
                self.found.cut_short += 1;
                continue;
            }
            let mut world = node.world.clone();
            world.happen(what);
            let next = Node {
                world,
                faults: node.faults + u32::from(what.is_fault()),
                waits: node.waits + u32::from(what == Move::Wait),
                depth: node.depth + 1,
            };
            let next = self.number(next, Some((number, what)), watched);
            self.found.steps += 1;
            if !what.is_fault() {
                self.calm.push((number, next));
            }
        }
    }

    /// A state from which some calm way leads to no end, if there is one: what is left when ends are taken away, and
    /// then again and again all states whose every calm step leads to what was taken away.
    fn endless(&self) -> Option<u32> {
        let mut steps_left = vec![0_u32; self.marks.len()];
        let mut steps_to = vec![Vec::new(); self.marks.len()];
        for &(from, to) in &self.calm {
            steps_left[from as usize] += 1;
            steps_to[to as usize].push(from);
        }
        let mut taken: Vec<bool> = self.marks.iter().map(|mark| mark.is_goal).collect();
        let mut queue: Vec<usize> = (0..taken.len()).filter(|number| taken[*number]).collect();
        while let Some(number) = queue.pop() {
            for &before in &steps_to[number] {
                let before = before as usize;
                steps_left[before] -= 1;
                if steps_left[before] == 0 && !std::mem::replace(&mut taken[before], true) {
                    queue.push(before);
                }
            }
        }
        taken.iter().position(|taken| !taken).map(|number| u32::try_from(number).unwrap())
    }
}

fn explore(conditions: Conditions, faults_max: u32, watched: &[Property]) -> Explored {
    let mut graph = Graph {
        known: HashMap::new(),
        marks: Vec::new(),
        calm: Vec::new(),
        queue: VecDeque::new(),
        found: Explored::default(),
    };
    let first = Node { world: World::new(conditions), faults: 0, waits: 0, depth: 0 };
    graph.number(first, None, watched);
    while let Some((number, node)) = graph.queue.pop_front() {
        graph.look(number, &node, faults_max, watched);
    }
    if watched.contains(&Property::Ends)
        && let Some(number) = graph.endless()
    {
        graph.violated(&BTreeSet::from([Property::Ends]), number);
    }
    graph.found.states = graph.known.len();
    graph.found
}

/// On a wild network a message may be lost without anybody being told, so that somebody waits for it for ever.
fn watched(conditions: Conditions) -> Vec<Property> {
    let holds = |property: &Property| *property != Property::Ends || !conditions.is_wild;
    Property::ALL.into_iter().filter(holds).collect()
}

fn faults_max() -> u32 {
    let asked = std::env::var("NOVACRON_MODEL_FAULTS").ok();
    asked.map_or(FAULTS_MAX, |faults| faults.parse().expect("NOVACRON_MODEL_FAULTS is a number"))
}

fn check(name: &str, conditions: Conditions, faults_max: u32) {
    let (begun, watched) = (Instant::now(), watched(conditions));
    let found = explore(conditions, faults_max, &watched);
    println!(
        "{name}, up to {faults_max} faults: {} states, {} steps, {} ends, depth {}, {} cut short, {:.1} s",
        found.states,
        found.steps,
        found.ends,
        found.depth,
        found.cut_short,
        begun.elapsed().as_secs_f64(),
    );
    for property in &watched {
        let holds = !found.violations.contains_key(property);
        println!("  {} {property}", if holds { "holds:" } else { "VIOLATED:" });
    }
    assert!(found.violations.is_empty(), "{name}: {:#?}", found.violations);
    // What was not looked at for want of time could only hide that there is no end.
    assert!(found.cut_short == 0 || conditions.is_wild, "{name}: {found:?}");
    assert!(found.states > 1000 && found.ends > 10, "{found:?}");
}

#[test]
fn whatever_fails_one_copy_runs_and_one_will() {
    check("what arrives is what was sent", Conditions::default(), faults_max());
}

#[test]
fn a_migration_that_may_not_start_over_again_ends() {
    let conditions = Conditions { restarts_once: true, ..Conditions::default() };
    check("it may start over once", conditions, faults_max());
}

#[test]
fn a_damaged_guest_never_runs() {
    let conditions = Conditions { is_corrupt: true, ..Conditions::default() };
    check("what arrives is damaged", conditions, faults_max());
}

#[test]
fn a_network_that_keeps_no_order_makes_no_second_copy() {
    // One fault less, since there are four more kinds of them.
    let conditions = Conditions { is_wild: true, ..Conditions::default() };
    check("the network keeps no order", conditions, faults_max() - 1);
}

/// Rules that are broken on purpose, what is found then, and with how many faults.
#[test]
fn a_broken_rule_is_found() {
    use Property::{GoAfterRelease, OneCopy, OneOwner, RunByRight, SteadyVerdict};
    let broken = [
        (BrokenRule::SourceWritesLate, GoAfterRelease, 0),
        (BrokenRule::SourceWritesLate, OneOwner, 0),
        (BrokenRule::SourceWritesLate, OneCopy, 1),
        (BrokenRule::TargetWritesLate, RunByRight, 0),
        (BrokenRule::TargetWritesLate, SteadyVerdict, 1),
        (BrokenRule::RefusalForgotten, SteadyVerdict, 3),
        (BrokenRule::ReleaseRunsOut, OneOwner, 1),
        (BrokenRule::ReleaseRunsOut, OneCopy, 1),
    ];
    for (rule, property, faults) in broken {
        let conditions = Conditions { broken: Some(rule), ..Conditions::default() };
        let found = explore(conditions, faults, &[property]);
        let way = found.violations.get(&property);
        let way = way.unwrap_or_else(|| panic!("{rule:?}: \"{property}\" was not violated"));
        println!("{rule:?}: not \"{property}\" after {way:?}");
    }
}
