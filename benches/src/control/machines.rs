//! Machines of a fleet: made through the API as an operator's program makes them, dealt to simulated hosts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};
use novacron_protocol::api::{Page, VmCreate, VmView};
use novacron_protocol::ids::VmId;
use novacron_protocol::vm::{Labels, VmState};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Cluster;
use super::coordinators::{ask, check};
use super::hosts;
use super::link::{Door, Link};
use crate::interruption::Interruption;

/// Clients that make machines at once, four to a connection.
const MAKERS: usize = 64;
const MAKERS_PER_CONNECTION: usize = 4;
/// For a host to be heard again, and for each answer: many are asked for at once.
const MAKE_TIMEOUT: Duration = Duration::from_secs(30);
const MAKE_AGAIN: Duration = Duration::from_millis(500);
/// For hosts to have carried out what comes with new machines, or with changes.
const SETTLE_PATIENCE: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The most machines of one page.
const PAGE_ITEMS: usize = 1_000;
/// States in which something is under way.
const UNSETTLED: [&str; 5] = ["pending", "creating", "starting", "stopping", "unknown"];
/// Values of the label that tells machines apart as applications do.
const APPLICATIONS: usize = 50;

/// Whether a machine is started when it is made: half of them are.
pub fn is_started(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Makes machines, and says their ids in the order of their numbers.
pub fn make(cluster: &Cluster, numbers: Range<usize>, hosts: usize) -> Result<Vec<VmId>> {
    let doors = cluster.doors();
    let doors = cluster.running().map(|at| doors[at].clone()).collect();
    cluster.runtime().block_on(make_all(doors, numbers, hosts))
}

async fn make_all(doors: Vec<Door>, numbers: Range<usize>, hosts: usize) -> Result<Vec<VmId>> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let mut makers = JoinSet::new();
    for door in doors.iter().cycle().take(MAKERS / MAKERS_PER_CONNECTION) {
        let link = door.open().await?;
        for _ in 0..MAKERS_PER_CONNECTION {
            makers.spawn(make_some(link.clone(), Arc::clone(&next), numbers.end, hosts));
        }
    }
    let mut made = BTreeMap::new();
    while let Some(ended) = makers.join_next().await {
        made.extend(ended.context("a client ended")??);
    }
    Ok(made.into_values().collect())
}

async fn make_some(
    link: Link,
    next: Arc<AtomicUsize>,
    end: usize,
    hosts: usize,
) -> Result<Vec<(usize, VmId)>> {
    let mut made = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return Ok(made);
        }
        made.push((number, make_one(&link, number, hosts).await?));
    }
}

/// A host that was not heard for a moment takes no machine; then it is asked again.
async fn make_one(link: &Link, number: usize, hosts: usize) -> Result<VmId> {
    let body = serde_json::to_string(&order(number, hosts)?)?;
    let deadline = Instant::now() + MAKE_TIMEOUT;
    loop {
        let order = link.exchange(ask(Method::POST, "/api/v1/vms", &body));
        // Each try has all of the time, so that the last one says why there was no room.
        let answer = timeout(MAKE_TIMEOUT, order).await.context("no answer")??;
        let has_no_room = answer.status == StatusCode::UNPROCESSABLE_ENTITY.as_u16();
        if !has_no_room || Instant::now() >= deadline {
            check(&answer).with_context(|| format!("machine {number}"))?;
            let view: VmView = serde_json::from_slice(&answer.body).context("no machine")?;
            return Ok(view.id);
        }
        sleep(MAKE_AGAIN).await;
    }
}

fn order(number: usize, hosts: usize) -> Result<VmCreate> {
    let application = format!("application-{}", number % APPLICATIONS);
    let labels = [("app".to_owned(), application), ("tier".to_owned(), "production".to_owned())];
    Ok(VmCreate {
        name: format!("vm-{number:06}"),
        labels: Labels::from_iter(labels),
        node: Some(hosts::name(number % hosts)?.to_string()),
        start: Some(is_started(number)),
        ..VmCreate::default()
    })
}

/// Waits until nothing is under way with any machine.
pub fn await_settled(cluster: &Cluster, interruption: &Interruption) -> Result<()> {
    interruption.wait("machines at rest", SETTLE_PATIENCE, LOOK_AGAIN, || {
        for state in UNSETTLED {
            let found = page(cluster, &format!("state={state}&limit=1"))?;
            if !found.items.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// How every machine stands.
pub fn states(cluster: &Cluster) -> Result<BTreeMap<VmId, VmState>> {
    let mut states = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let found = page(cluster, &format!("limit={PAGE_ITEMS}{cursor}"))?;
        states.extend(found.items.iter().map(|vm| (vm.id, vm.state)));
        match found.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(states),
        }
    }
}

/// Of a member that runs.
fn page(cluster: &Cluster, query: &str) -> Result<Page<VmView>> {
    let Some(at) = cluster.running().next() else { bail!("no coordinator runs") };
    let answer = cluster.ask(at, &ask(Method::GET, &format!("/api/v1/vms?{query}"), ""))?;
    check(&answer)?;
    serde_json::from_slice(&answer.body).context("no page of machines")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_one_that_the_api_takes() {
        for number in [0, 1, 19_999] {
            let spec = order(number, 2_000).unwrap().to_spec();
            assert!(spec.is_ok(), "{spec:?}");
        }
    }
}
