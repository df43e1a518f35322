//! Runs a test for many seeds, and says how to run a failing one again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const SEED_VARIABLE: &str = "NOVACRON_SEED";

/// Runs `test` for the seeds from 0 to `count`, or only for the one in the environment.
pub fn for_each_seed(count: u64, test: impl Fn(u64)) {
    let only = std::env::var(SEED_VARIABLE).ok().map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            eprintln!("replay: {SEED_VARIABLE}={seed} cargo test -p novacron-storage {name}");
            resume_unwind(panic);
        }
    }
}

/// The value that `strategy` makes of a seed.
pub fn value_of<S: Strategy>(strategy: &S, seed: u64) -> S::Value {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy
        .new_tree(&mut runner)
        .expect("strategies without filters always have a value")
        .current()
}
