//! Many clients of a member that does not lead: their commands go to the leader together, and each has its own outcome.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use novacron_coordinator::app::App;
use novacron_coordinator::propose::ProposeError;
use novacron_coordinator::state::Refusal;
use novacron_protocol::ids::VmId;

use crate::support::*;

/// Machines that are made at once; each by two clients, of which one comes too late.
const MACHINES: usize = 300;

const CLIENTS: usize = 64;
const MACHINES_OF_EACH: usize = 20;

type Made = Result<VmId, ProposeError>;

/// The one that was made, if the other was refused since there is one.
fn the_one(made: &[Made; 2]) -> VmId {
    match made {
        [Ok(vm), Err(ProposeError::Refused(Refusal::NameTaken { .. }))]
        | [Err(ProposeError::Refused(Refusal::NameTaken { .. })), Ok(vm)] => *vm,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_commands_that_go_together_has_its_own_outcome() {
    let cluster = TestCluster::start(3).await;
    let followers = cluster.followers().await;
    let [first, second] = [cluster.app(&followers[0]), cluster.app(&followers[1])];
    let requests: Vec<_> = (0..MACHINES).map(|_| [request(), request()]).collect();
    let ask = async || {
        let both = requests.iter().zip(0..).map(async |([one, other], number)| {
            let name = format!("web-{number}");
            let one = create_as(first, *one, &name);
            <[Made; 2]>::from(tokio::join!(one, create_as(second, *other, &name)))
        });
        join_all(both).await
    };
    let made = ask().await;
    let vms: BTreeSet<VmId> = made.iter().map(the_one).collect();
    assert_eq!(vms.len(), MACHINES, "each is another machine");
    assert_eq!(ask().await, made, "the same requests are the same ones");
    cluster.shutdown().await;
}

/// Machines, one after the other. Whoever does not know what became of one asks again, by the same request.
async fn make(app: &App, client: usize) -> Vec<VmId> {
    let mut made = Vec::new();
    for number in 0..MACHINES_OF_EACH {
        let (name, asked) = (format!("web-{client}-{number}"), request());
        let vm = until("it is made", async || create_as(app, asked, &name).await.ok());
        made.push(vm.await);
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_takes_none_of_what_was_acknowledged_along() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.followers().await.remove(0);
    let app = cluster.app(&follower).clone();
    let clients = join_all((0..CLIENTS).map(|client| make(&app, client)));
    let death = async {
        until("many are made", async || {
            app.view.local(|fleet| fleet.vms().count() >= 200).then_some(())
        })
        .await;
        cluster.stop(&leader).await;
    };
    let (made, ()) = tokio::join!(clients, death);
    let vms: BTreeSet<VmId> = made.into_iter().flatten().collect();
    assert_eq!(vms.len(), CLIENTS * MACHINES_OF_EACH);
    let there = app.view.read(|fleet| fleet.vms().map(|vm| vm.id).collect()).await;
    assert_eq!(there, Ok(vms), "nothing is lost, nothing is there twice");
    cluster.shutdown().await;
}
