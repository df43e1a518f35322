//! Three coordinators, as an operator sets them up: one founds, two join with a token.

mod dialect;
mod layout;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use novacron_protocol::api::VmView;
use novacron_protocol::ids::VmId;

use super::cluster::Cluster;
use dialect::MACHINES;
pub use dialect::{Coordinators, ask, check};
pub use layout::Layout;

/// For a member that starts to serve, with all that it has to read.
const SERVE_PATIENCE: Duration = Duration::from_secs(300);
/// The program's name.
pub const PROGRAM: &str = "novacron-coordinator";

/// Starts the members, with all of their files below `directory`, and makes the machines that values are kept beside;
/// `programs` is where NovaCron's are.
pub fn found(programs: &Path, directory: &Path) -> Result<Cluster> {
    let layout = Layout::create(programs, directory)?;
    layout.init()?;
    let dialect = Arc::<Coordinators>::default();
    let mut cluster = layout.cluster(Arc::clone(&dialect))?;
    layout.start(&mut cluster)?;
    // Nobody else sets them.
    let _ = dialect.machines.set(make_machines(&cluster)?);
    cluster.await_ready()?;
    Ok(cluster)
}

fn make_machines(cluster: &Cluster) -> Result<Vec<VmId>> {
    let make = |number: usize| {
        let body = format!(r#"{{"name":"bench-{number}","start":false}}"#);
        let answer = cluster.ask(0, &ask(Method::POST, "/api/v1/vms", &body))?;
        check(&answer)?;
        Ok(serde_json::from_slice::<VmView>(&answer.body).context("no machine")?.id)
    };
    (0..MACHINES).map(make).collect()
}

/// Waits until a member answers that it can serve: it has caught up with the leader, which a quorum has confirmed.
pub fn await_serving(cluster: &Cluster, at: usize) -> Result<()> {
    let ready = ask(Method::GET, "/readyz", "");
    cluster.ask_patiently(at, &ready, SERVE_PATIENCE, |answer| Ok(check(answer).is_ok())).map(drop)
}
