//! Three real coordinators in network namespaces, on disks that forget what was not synced, under clients that never
//! stop: killed, paused, cut off, slowed down, filled up, damaged and wiped, and nothing that was acknowledged is lost
//! or happens twice. Two agents, killed, paused and cut off, meter a machine each, and nothing of that is lost or counted
//! twice.
#![allow(clippy::unwrap_used, reason = "a test")]

use novacron_tests::faults::campaign;
use novacron_tests::faults::fault::Fault;
use novacron_tests::faults::site::Site;

/// How many faults, and the seed that chooses them beyond the first of each kind: set these to run it longer, or again.
const FAULTS_VARIABLE: &str = "NOVACRON_FAULTS";
const SEED_VARIABLE: &str = "NOVACRON_FAULTS_SEED";
/// Faults of every run of the tests.
const FAULTS_DEFAULT: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_whatever_fails() {
    let faults = number(FAULTS_VARIABLE).unwrap_or(FAULTS_DEFAULT);
    let seed = number(SEED_VARIABLE).unwrap_or_else(|| u64::from(std::process::id()));
    let site = Site::up().unwrap();
    let account = match campaign(&site, seed, usize::try_from(faults).unwrap()) {
        Ok(account) => account,
        Err(error) => {
            site.print_logs();
            panic!(
                "{error:#}\n\nTo run this again: cargo build --release --bins && {FAULTS_VARIABLE}={faults} {SEED_VARIABLE}={seed} \
                 cargo test --release -p novacron-tests --test coordinators_under_fire"
            );
        }
    };
    println!(
        "{faults} faults (seed {seed}): {} operations answered, {} of unknown outcome, {} s of usage, {} s of machines and {} \
         byte-seconds of disks metered by two agents; {} power cuts took {} bytes that were not synced; 0 lost, 0 doubled",
        account.answered,
        account.unknown,
        account.usage_s,
        account.metered.vm_s,
        account.metered.disk_byte_s,
        account.power_cuts,
        account.forgotten_bytes
    );
    let kinds = u64::try_from(Fault::ALL.len()).unwrap();
    assert!(faults < kinds || account.power_cuts >= 3, "all kinds of faults happen: {account:?}");
    assert!(
        account.forgotten_bytes >= account.power_cuts,
        "each of them took something: {account:?}"
    );
    assert!(account.answered > 100, "the clients hardly got an answer: {account:?}");
}
