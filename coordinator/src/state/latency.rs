//! How far regions are from each other, as operators or their probers say. It decides nothing in the fleet: whoever asks
//! for a route is told the regions in its order ([`planner::route`](crate::planner::route)).

use std::collections::BTreeMap;

use novacron_protocol::ids::RegionCode;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use super::table::ROW_BYTES_MAX;

/// How far other regions are from one. A region that nobody measured from has no row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Milliseconds there and back, by region; not to itself.
    pub ms: BTreeMap<RegionCode, u32>,
}

impl Message for Latencies {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "region latencies row";
}

impl Fleet {
    /// What was said about the way from a region to others.
    pub fn latencies_from(&self, region: &RegionCode) -> BTreeMap<RegionCode, u32> {
        self.region_latencies.get(region).map(|row| row.ms.clone()).unwrap_or_default()
    }

    /// Milliseconds from one region to another and back: as it was said from here, else as it was said from there, since
    /// the way is the same. A region is 0 from itself.
    pub fn latency_ms(&self, from: &RegionCode, to: &RegionCode) -> Option<u32> {
        if from == to {
            return Some(0);
        }
        let said = |one, other| self.region_latencies.get(one)?.ms.get(other).copied();
        said(from, to).or_else(|| said(to, from))
    }

    pub(super) fn set_latencies(&mut self, region: &RegionCode, ms: &BTreeMap<RegionCode, u32>) {
        match ms.is_empty() {
            true => drop(self.region_latencies.remove(region)),
            false => self.region_latencies.insert(region.clone(), Latencies { ms: ms.clone() }),
        }
    }

    /// Of a region that is no more, nobody is near.
    pub(super) fn forget_latencies(&mut self, region: &RegionCode) {
        self.set_latencies(region, &BTreeMap::new());
        let rows = self.region_latencies.iter();
        let named = rows.filter(|(_, row)| row.ms.contains_key(region));
        let named: Vec<RegionCode> = named.map(|(from, _)| from.clone()).collect();
        for from in named {
            let mut left = self.latencies_from(&from);
            left.remove(region);
            self.set_latencies(&from, &left);
        }
    }

    pub(super) fn check_latencies(&self) -> Result<(), String> {
        let is_known = |code: &RegionCode| self.regions.get(code).is_some();
        let is_right = |(from, row): &(&RegionCode, &Latencies)| {
            let to = &row.ms;
            is_known(from) && !to.is_empty() && to.keys().all(|to| is_known(to) && to != *from)
        };
        match self.region_latencies.iter().find(|row| !is_right(row)) {
            Some((from, _)) => Err(format!("latencies from {from}: of no region, or to none")),
            None => Ok(()),
        }
    }
}
