//! Coordinators under fire: real processes in network namespaces, clients that never stop, and one fault after another.
//!
//! | module | holds |
//! |---|---|
//! | [`history`] | what clients did and what they were answered |
//! | [`linearizable`] | whether that could have happened one after the other |
//! | [`site`] | the cluster, and what can be done to it from outside |
//! | [`load`] | the clients, and what is true of what they saw |
//! | [`running`] | machines that run all the while, and the seconds of theirs in the ledger |
//! | [`fault`] | the faults, and the proof that they had an effect |
//! | [`dice`] | what a seed decides |

pub mod dice;
pub mod fault;
pub mod history;
pub mod linearizable;
pub mod load;
pub mod running;
pub mod site;

use anyhow::{Context, Result};

use self::dice::Dice;
use self::fault::{Fault, inflict};
use self::load::{Account, Load};
use self::running::Running;
use self::site::Site;

/// So many faults, first each kind once, then as the seed decides; and what the clients saw, judged.
///
/// # Errors
/// A fault had no effect, the cluster did not become whole, or what clients saw cannot have happened.
pub fn campaign(site: &Site, seed: u64, faults: usize) -> Result<Account> {
    let running = Running::start(site)?;
    let (load, mut dice) = (Load::start(site, seed)?, Dice::new(seed));
    for number in 0..faults {
        let fault = Fault::ALL.get(number).copied();
        let fault = fault.unwrap_or_else(|| Fault::ALL[dice.below(Fault::ALL.len())]);
        inflict(site, (&load, &running), fault, dice.below(2))
            .with_context(|| format!("fault {} of {faults}", number + 1))?;
    }
    // Before the ledger is verified: their last seconds are in it then.
    let metered = running.check(site).context("the machines that ran all the while")?;
    load.judge(site, metered)
}
