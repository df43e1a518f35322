//! What operators' programs ask of a fleet: a page of its machines, one machine, and a small write.

use std::sync::Arc;

use anyhow::{Result, ensure};
use http::Method;
use novacron_protocol::ids::VmId;

use super::coordinators::{ask, check};
use super::dialect::Key;
use super::link::{Answer, Ask};
use super::work::Work;

/// Machines of a page.
pub const PAGE_ITEMS: usize = 100;
/// What every machine's view has once, and nothing else of a page has.
const OF_EACH_MACHINE: &str = "\"nodeSelector\":";
/// Keys of a machine that are written in turn.
const KEYS: u64 = 8;
/// Apart by this many, the machines of consecutive requests are on different pages and hosts.
const STRIDE: u64 = 7_919;

/// Machines in the order of their ids, which is that of lists.
#[derive(Debug, Clone)]
pub struct Machines(Arc<Vec<VmId>>);

impl Machines {
    /// Of a fleet.
    pub fn new(machines: &[VmId]) -> Self {
        let mut machines = machines.to_vec();
        machines.sort_unstable();
        Self(Arc::new(machines))
    }

    /// One of the first so many, by the number of the request.
    fn pick(&self, number: u64, of: usize) -> VmId {
        let place = number.wrapping_mul(STRIDE) % of.max(1) as u64;
        self.0[place as usize]
    }
}

/// Pages of 100 machines, from anywhere in the list.
#[derive(Debug, Clone)]
pub struct Lists(pub Machines);

/// Single machines.
#[derive(Debug, Clone)]
pub struct Shows(pub Machines);

/// An annotation of a machine.
#[derive(Debug, Clone)]
pub struct Annotations(pub Machines);

impl Work for Lists {
    fn ask(&self, key: Key) -> Ask {
        // There have to be as many behind it as a page has.
        let Some(of) = self.0.0.len().checked_sub(PAGE_ITEMS + 1) else {
            return ask(Method::GET, &format!("/api/v1/vms?limit={PAGE_ITEMS}"), "");
        };
        let cursor = self.0.pick(key.number, of);
        ask(Method::GET, &format!("/api/v1/vms?limit={PAGE_ITEMS}&cursor=vm-{cursor}"), "")
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        check(answer)?;
        let found = std::str::from_utf8(&answer.body)?.matches(OF_EACH_MACHINE).count();
        let wanted = PAGE_ITEMS.min(self.0.0.len());
        ensure!(found == wanted, "{found} machines instead of {wanted}");
        Ok(())
    }
}

impl Work for Shows {
    fn ask(&self, key: Key) -> Ask {
        let vm = self.0.pick(key.number, self.0.0.len());
        ask(Method::GET, &format!("/api/v1/vms/{vm}"), "")
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        check(answer)
    }
}

impl Work for Annotations {
    fn ask(&self, key: Key) -> Ask {
        annotate(self.0.pick(key.number, self.0.0.len()), key.number)
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        check(answer)
    }
}

/// A small write beside a machine.
pub fn annotate(vm: VmId, number: u64) -> Ask {
    let path = format!("/api/v1/vms/{vm}/annotations/bench-{}", number % KEYS);
    ask(Method::PUT, &path, &format!(r#"{{"value":"change {number} of a bench"}}"#))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use uuid::Uuid;

    use super::*;

    fn machines(count: u128) -> Machines {
        let ids: Vec<_> = (0..count).rev().map(|number| VmId(Uuid::from_u128(number))).collect();
        Machines::new(&ids)
    }

    fn path(work: &dyn Work, number: u64) -> String {
        work.ask(Key { client: 0, number }).path
    }

    #[test]
    fn every_page_is_a_whole_one() {
        let lists = Lists(machines(102));
        let first = format!("/api/v1/vms?limit=100&cursor=vm-{}", VmId(Uuid::from_u128(0)));
        assert!((0..200).all(|number| path(&lists, number) == first));
        assert_eq!(path(&Lists(machines(100)), 3), "/api/v1/vms?limit=100");
    }

    #[test]
    fn a_page_that_is_short_is_no_answer() {
        let answer = |items: usize| Answer {
            status: 200,
            body: Bytes::from(r#"{"nodeSelector":{}}"#.repeat(items)),
            trailers: HeaderMap::new(),
        };
        let lists = Lists(machines(500));
        assert!(lists.check(&answer(100)).is_ok());
        assert!(lists.check(&answer(99)).is_err());
    }

    #[test]
    fn requests_go_over_all_machines() {
        let shows = Shows(machines(20));
        let paths: std::collections::BTreeSet<_> = (0..20).map(|n| path(&shows, n)).collect();
        assert_eq!(paths.len(), 20);
    }
}
