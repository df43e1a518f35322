//! Changing a running cluster: links, and the programs of single hosts. What failure tests are made of.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, Host, Isolation};
use super::programs::{Programs, process_of};
use super::{execute, network, up};
use crate::args::{DevLink, LinkChange, SignalName};
use crate::failure::{Exit, Failure};
use crate::output::notice;

/// How long a process that is killed may take: a thread of it that waits for a disk that stalls is waited for.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Cuts, joins or reshapes the link between two hosts.
///
/// # Errors
/// There is no such host, or the cluster's links cannot be changed.
pub fn link(cluster: &Cluster, link: &DevLink) -> Result<(), Failure> {
    if cluster.isolation == Isolation::Loopback {
        return Err(Failure::new(
            Exit::NotAllowed,
            "this cluster was made without network namespaces: its hosts share the loopback, which cannot be cut or shaped",
        )
        .hint("`novacron dev down --purge`, then `novacron dev up` as root"));
    }
    let (one, other) = (find(cluster, &link.one)?, find(cluster, &link.other)?);
    if one == other {
        return Err(Failure::usage(format!("{} has no link to itself", one.name)));
    }
    match link.change() {
        LinkChange::Down => execute::execute_all(&network::cut(cluster, one, other))?,
        LinkChange::Up => execute::execute_all(&network::join(cluster, one, other))?,
        LinkChange::Rate(rate) => {
            execute::execute_all(&network::shape(cluster, one, rate))?;
            execute::execute_all(&network::shape(cluster, other, rate))?;
        }
    }
    notice(&said(link));
    Ok(())
}

fn said(link: &DevLink) -> String {
    let (one, other) = (&link.one, &link.other);
    match link.change() {
        LinkChange::Down => format!("{one} and {other} lose every packet to each other"),
        LinkChange::Up => format!("{one} and {other} reach each other"),
        LinkChange::Rate(rate) => format!("the links of {one} and {other} have {rate}"),
    }
}

/// Sends a signal to a host's coordinator or agent.
///
/// # Errors
/// There is no such host, nothing of it runs, or it was killed and does not end.
pub fn kill(cluster: &Cluster, host: &str, signal: SignalName) -> Result<(), Failure> {
    let host = find(cluster, host)?;
    let Some(process) = process_of(cluster, host) else {
        return Err(Failure::new(Exit::Conflict, format!("{} does not run", host.name))
            .hint(format!("`novacron dev start {}` starts it", host.name)));
    };
    process.signal(signal.signal());
    if signal == SignalName::Kill && !process.await_end(Instant::now() + END_PATIENCE) {
        let seconds = END_PATIENCE.as_secs();
        let message = format!("{} was killed and has not ended in {seconds} s", host.name);
        return Err(Failure::new(Exit::TimedOut, message)
            .hint("a thread of it waits for the disk; it ends when that answers".to_owned()));
    }
    notice(&format!(
        "{} of {} (pid {}) got {}",
        host.role.program(),
        host.name,
        process.pid,
        signal.name()
    ));
    Ok(())
}

/// Starts a host's coordinator or agent again.
///
/// # Errors
/// There is no such host, it runs already, or it cannot be started.
pub fn start(cluster: &Cluster, host: &str) -> Result<(), Failure> {
    let host = find(cluster, host)?;
    if let Some(process) = process_of(cluster, host) {
        return Err(Failure::new(
            Exit::Conflict,
            format!("{} runs already (pid {})", host.name, process.pid),
        ));
    }
    let process = Programs::find()?.serve(cluster, host)?;
    notice(&format!("started {} of {} (pid {})", host.role.program(), host.name, process.pid));
    Ok(())
}

/// Removes all that a host has on disk, lets it join anew and starts it, as a host that was replaced.
///
/// # Errors
/// There is no such host, it runs, or the rest of the cluster does not let it join.
pub fn rejoin(cluster: &Cluster, host: &str) -> Result<(), Failure> {
    let host = find(cluster, host)?;
    if let Some(process) = process_of(cluster, host) {
        let message = format!("{} runs (pid {})", host.name, process.pid);
        return Err(Failure::new(Exit::Conflict, message)
            .hint(format!("`novacron dev kill {}` ends it", host.name)));
    }
    up::enroll_again(cluster, host, &Programs::find()?)
}

fn find<'a>(cluster: &'a Cluster, name: &str) -> Result<&'a Host, Failure> {
    cluster.host(name).ok_or_else(|| {
        let names: Vec<_> = cluster.hosts.iter().map(|host| host.name.as_str()).collect();
        Failure::new(
            Exit::NotFound,
            format!("there is no host `{name}`; there are {}", names.join(", ")),
        )
    })
}
