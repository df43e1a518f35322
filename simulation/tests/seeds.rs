//! Runs of the simulation, each in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

use clap::ValueEnum;
use novacron_simulation::planted::Planted;

/// The program; arguments come before those that a test adds.
fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_novacron-simulation")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a run prints of its course.
fn trace(seed: &str) -> String {
    let output = simulate(&["one", "--seed", seed]);
    assert!(output.status.success(), "{}", text(&output));
    let line = text(&output);
    let (_, from) = line.split_once("trace ").unwrap();
    from[..16].to_owned()
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for seed in ["2", "9", "18"] {
        assert_eq!(trace(seed), trace(seed), "two runs of seed {seed} differ");
    }
    assert_ne!(trace("2"), trace("9"));
}

#[test]
fn a_hundred_seeds_find_nothing() {
    let output = simulate(&["many", "--seeds", "100"]);
    let text = text(&output);
    let last = text.lines().last().unwrap_or_default();
    assert!(output.status.success(), "{last}\nreplay: cargo xtask sim --seed N, N from this line");
    assert_eq!(text.lines().count(), 100);
}

#[test]
fn every_planted_bug_is_found_within_two_hundred_seeds() {
    for planted in Planted::BUGS {
        let name = planted.to_possible_value().unwrap().get_name().to_owned();
        let output = simulate(&["many", "--seeds", "200", "--planted", &name]);
        let text = text(&output);
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "{name} is not found: {last}");
        assert!(last.contains("BUG"), "{last}");
        println!("{name}: {last}");
    }
}
