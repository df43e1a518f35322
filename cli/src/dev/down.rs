//! Ending a cluster. Everything is looked up anew and may be gone already, so it can be done twice, and after an
//! `up` that came half way.

use std::path::Path;
use std::time::Duration;

use super::cluster::{Cluster, Role, Wish};
use super::process::{Process, stop_all};
use super::programs::{is_root, process_of, processes_of};
use super::{execute, lock, machines, network, store};
use crate::failure::Failure;
use crate::output::notice;

/// For how long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// `novacron dev down`.
///
/// # Errors
/// There is no cluster, or something could not be ended or removed.
pub fn run(dir: &Path, purge: bool) -> Result<(), Failure> {
    let Some(cluster) = store::find(dir)? else {
        return take_down_lost(dir);
    };
    if !purge {
        machines::stop(&cluster);
    }
    take_down(&cluster)?;
    if purge {
        remove_data(&cluster)?;
        lock::remove_unused(Path::new(lock::PATH));
        notice(&format!("the cluster in {} is gone", dir.display()));
    } else {
        notice(&format!(
            "the cluster in {} is down; `novacron dev up` takes it up again",
            dir.display()
        ));
    }
    Ok(())
}

/// Somebody may have removed the directory of a cluster that was up: all else of it has names that are known.
fn take_down_lost(dir: &Path) -> Result<(), Failure> {
    let lost = Cluster::plan(dir, 0, &Wish::largest(is_root()));
    let was_up = !processes_of(&lost).is_empty()
        || network::root_leg(&lost).exists()
        || lost.hosts_of(Role::Node).any(|node| lost.memory_dir(node).exists());
    take_down(&lost)?;
    if !was_up {
        return Err(store::absent(dir));
    }
    notice(&format!("what was left of the cluster in {} is ended", dir.display()));
    Ok(())
}

/// Ends all processes of a cluster, and removes what it has outside its directory.
///
/// # Errors
/// A process would not end, or a directory could not be removed.
pub fn take_down(cluster: &Cluster) -> Result<(), Failure> {
    // Agents first: nobody is to report guests as failed that end now.
    let agents: Vec<_> =
        cluster.hosts_of(Role::Node).filter_map(|host| process_of(cluster, host)).collect();
    stop_all(&agents, GRACE);
    stop_all(&processes_of(cluster), GRACE);
    let left = processes_of(cluster);
    execute::execute_each(&network::remove(cluster));
    for node in cluster.hosts_of(Role::Node) {
        store::remove_dir(&cluster.memory_dir(node))?;
    }
    for host in &cluster.hosts {
        store::remove_file(&cluster.host_dir(host).join("pid"))?;
    }
    if left.is_empty() { Ok(()) } else { Err(survivors(&left)) }
}

fn survivors(left: &[Process]) -> Failure {
    let list: Vec<_> = left.iter().map(|process| process.pid.to_string()).collect();
    Failure::failed(format!("these processes of the cluster would not end: {}", list.join(", ")))
}

/// Removes what `up` has made in the directory, and the directory if that leaves it empty.
fn remove_data(cluster: &Cluster) -> Result<(), Failure> {
    for host in &cluster.hosts {
        store::remove_dir(&cluster.host_dir(host))?;
    }
    store::remove_dir(&cluster.operator_dir())?;
    store::remove_file(&cluster.client_config())?;
    // Last: until here a second attempt finds the record.
    store::forget(&cluster.dir)?;
    // Images are the user's. Both stay if anything is in them.
    let _ = std::fs::remove_dir(cluster.image_dir());
    let _ = std::fs::remove_dir(&cluster.dir);
    Ok(())
}
