//! Making a cluster, or taking one up again.
//!
//! Each step looks at what is there, so an `up` that was interrupted, and a cluster that was taken down, go on where
//! they stopped: a host that has its certificate (`enrolled`) is only started.
//!
//! ```text
//!  claim subnet → network → files → coordinator-1: init, serve → others: token, join, serve → nodes: the same → all ready
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use novacron_protocol::api::TokenCreate;
use novacron_protocol::node::NodeState;
use novacron_sdk::{Client, Config};

use super::cluster::{
    API_PORT, Cluster, DIR_BYTES_MAX, Host, Isolation, Role, SUBNETS, Wish, subnet_preferred,
};
use super::programs::{Programs, is_root, isolation_text, log_tail, process_of};
use super::{down, execute, files, lock, network, programs, store};
use crate::args::DevUp;
use crate::failure::{Exit, Failure};
use crate::output::notice;

/// Between two looks at something that is not ready yet.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long one look may take.
const LOOK: Duration = Duration::from_secs(2);
/// Lines of a log that are shown when its program fails.
const LOG_LINES: usize = 12;
/// Seconds for which the join tokens are good: more than all of `up` takes.
const TOKEN_SECONDS: u64 = 3600;
/// The file that says that a host has its certificate.
const ENROLLED: &str = "enrolled";

/// For how long a host that comes back without its data waits for a cluster to join.
const ENROLLING: Duration = Duration::from_secs(60);

/// `novacron dev up`.
///
/// # Errors
/// Why it did not work. Whatever was started is ended again.
pub fn run(dir: &Path, args: &DevUp) -> Result<Cluster, Failure> {
    let programs = Programs::find()?;
    refuse_long(dir)?;
    store::make_dir(dir)?;
    let dir = store::absolute(dir)?;
    let found = store::find(&dir)?;
    if let Some(cluster) = &found {
        refuse_running(cluster)?;
        refuse_other_shape(cluster, args)?;
    }
    let cluster = claim(&dir, found, args)?;
    notice(&format!("{} hosts, {}", cluster.hosts.len(), isolation_text(cluster.isolation)));
    let stage =
        Stage { cluster: &cluster, programs: &programs, deadline: Instant::now() + args.timeout };
    if let Err(failure) = stage.bring_up() {
        notice("that did not work; taking everything down again");
        down::take_down(&cluster)?;
        return Err(failure);
    }
    Ok(cluster)
}

/// Removes all that a host has on disk, makes it a member again, and starts it. It gets a new identity.
///
/// # Errors
/// Its data cannot be removed, or the rest of the cluster does not answer or does not let it join.
pub fn enroll_again(cluster: &Cluster, host: &Host, programs: &Programs) -> Result<(), Failure> {
    let deadline = Instant::now() + ENROLLING;
    let role = match host.role {
        Role::Coordinator => "coordinator",
        Role::Node => "agent",
    };
    let stage = Stage { cluster, programs, deadline };
    stage.let_in(host, role)?;
    stage.serve(host)
}

fn refuse_long(dir: &Path) -> Result<(), Failure> {
    if dir.as_os_str().len() <= DIR_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{} is too long a path for the sockets below it", dir.display());
    Err(Failure::usage(message)
        .hint(format!("`--dir` with at most {DIR_BYTES_MAX} bytes, such as /var/tmp/novacron")))
}

fn refuse_running(cluster: &Cluster) -> Result<(), Failure> {
    if !cluster.hosts.iter().any(|host| process_of(cluster, host).is_some()) {
        return Ok(());
    }
    let message = format!("the cluster in {} is up already", cluster.dir.display());
    Err(Failure::new(Exit::Conflict, message)
        .hint("`novacron dev status` shows it, `novacron dev start HOST` starts a stopped host, `novacron dev down` ends it"))
}

/// A cluster that is there keeps its shape: asking for another one is a mistake.
fn refuse_other_shape(cluster: &Cluster, args: &DevUp) -> Result<(), Failure> {
    let differs = |wanted: Option<u8>, role| {
        wanted.is_some_and(|n| cluster.hosts_of(role).count() != usize::from(n))
    };
    let needs_other_network = match cluster.isolation {
        Isolation::Namespaces { .. } => args.loopback || !is_root(),
        Isolation::Loopback => args.link.is_some(),
    };
    let what = if differs(args.coordinators, Role::Coordinator) {
        "another number of coordinators"
    } else if differs(args.nodes, Role::Node) {
        "another number of nodes"
    } else if needs_other_network {
        "another kind of network"
    } else {
        return Ok(());
    };
    let message = format!("the cluster in {} has {what}", cluster.dir.display());
    Err(Failure::new(Exit::Conflict, message)
        .hint("`novacron dev down --purge` removes it, data included; `--dir` makes another"))
}

/// Settles what the cluster is and takes hold of its subnet.
fn claim(dir: &Path, found: Option<Cluster>, args: &DevUp) -> Result<Cluster, Failure> {
    if let Some(cluster) = &found {
        down::take_down(cluster)?;
    }
    let isolation = isolation(found.as_ref(), args);
    let Isolation::Namespaces { .. } = isolation else {
        return settle(dir, found, args, isolation, |_| true);
    };
    // Held until the switch exists, whose root leg shows the subnet to others.
    let lock = lock::hold(Path::new(lock::PATH));
    let _lock = lock.map_err(|error| Failure::io(lock::PATH, &error))?;
    let listing =
        execute::execute(&["ip", "-o", "-4", "addr", "show"].map(str::to_owned).to_vec())?;
    let taken = network::subnets_taken(&listing);
    let cluster = settle(dir, found, args, isolation, |subnet| !taken.contains(&subnet))?;
    let commands = [network::create_switch(&cluster), network::create_hosts(&cluster)].concat();
    execute::execute_all(&commands).map_err(|failure| {
        execute::execute_each(&network::remove(&cluster));
        failure.hint("`--loopback` needs no network namespaces")
    })?;
    Ok(cluster)
}

fn isolation(found: Option<&Cluster>, args: &DevUp) -> Isolation {
    let is_loopback = found.is_some_and(|cluster| cluster.isolation == Isolation::Loopback);
    if is_loopback || args.loopback || !is_root() {
        return Isolation::Loopback;
    }
    match (args.link, found) {
        (Some(link), _) => Isolation::Namespaces { link: link.0 },
        (None, Some(cluster)) => cluster.isolation,
        (None, None) => Isolation::Namespaces { link: "1gbit".parse().ok() },
    }
}

/// The cluster as it was, or as it is asked for, with a subnet that is free; kept on disk before anything is made.
fn settle(
    dir: &Path,
    found: Option<Cluster>,
    args: &DevUp,
    isolation: Isolation,
    is_free: impl Fn(u16) -> bool,
) -> Result<Cluster, Failure> {
    let cluster = match found {
        // Its members know each other by their addresses, so it cannot move to another subnet.
        Some(cluster) if !is_free(cluster.subnet) => {
            let message =
                format!("{}/26 is used by another cluster on this machine", cluster.root_address());
            return Err(Failure::new(Exit::Conflict, message).hint("take that one down first"));
        }
        Some(cluster) => {
            Cluster { isolation, accel: args.accel.clone().unwrap_or(cluster.accel), ..cluster }
        }
        None => {
            let first = subnet_preferred(dir);
            let subnet =
                (0..SUBNETS).map(|n| (first + n) % SUBNETS).find(|subnet| is_free(*subnet));
            let subnet =
                subnet.ok_or_else(|| Failure::failed("no subnet of 10.213.0.0/16 is free"))?;
            Cluster::plan(dir, subnet, &wish(args, isolation))
        }
    };
    store::save(&cluster)?;
    Ok(cluster)
}

fn wish(args: &DevUp, isolation: Isolation) -> Wish {
    Wish {
        coordinators: args.coordinators.unwrap_or(3),
        nodes: args.nodes.unwrap_or(2),
        isolation,
        accel: args.accel.clone().unwrap_or_else(|| "auto".to_owned()),
    }
}

/// Bringing up one cluster.
struct Stage<'a> {
    cluster: &'a Cluster,
    programs: &'a Programs,
    deadline: Instant,
}

impl Stage<'_> {
    fn bring_up(&self) -> Result<(), Failure> {
        self.write_files()?;
        let Some(first) = self.cluster.hosts_of(Role::Coordinator).next() else { return Ok(()) };
        // Where others are members, it lost its data, and founding would make another cluster.
        if !self.cluster.hosts_of(Role::Coordinator).any(|host| self.is_enrolled(host)) {
            let operators = self.cluster.operator_dir();
            store::remove_dir(&operators)?;
            self.enroll(
                first,
                &["init", "--cluster-operators-out", &operators.display().to_string()],
            )?;
        }
        // All that can vote, since a cluster that was taken down needs its majority to answer.
        let coordinators = self.cluster.hosts_of(Role::Coordinator);
        let started: Vec<_> = coordinators.filter(|host| self.is_enrolled(host)).collect();
        for host in &started {
            self.serve(host)?;
        }
        let members = self.await_cluster(&started)?;
        for host in self.cluster.hosts_of(Role::Coordinator) {
            if self.is_enrolled(host) && !members.contains(&host.name) {
                notice(&format!(
                    "{0} was removed from the cluster; `novacron dev rejoin {0}` makes it a member again",
                    host.name
                ));
                continue;
            }
            self.join(host, "coordinator")?;
            self.await_coordinator(host)?;
        }
        for host in self.cluster.hosts_of(Role::Node) {
            self.join(host, "agent")?;
        }
        for host in self.cluster.hosts_of(Role::Node) {
            self.await_node(host)?;
        }
        Ok(())
    }

    fn write_files(&self) -> Result<(), Failure> {
        store::make_dir(&self.cluster.image_dir())?;
        for host in &self.cluster.hosts {
            store::make_dir(&self.cluster.host_dir(host))?;
            let text = match host.role {
                Role::Coordinator => files::coordinator(self.cluster, host),
                Role::Node => files::agent(self.cluster, host),
            };
            let text = text.map_err(|error| Failure::io(&host.name, &error))?;
            store::write(&programs::config_path(self.cluster, host), &text)?;
        }
        let client =
            files::client(self.cluster).map_err(|error| Failure::io("novacron.yaml", &error))?;
        store::write(&self.cluster.client_config(), &client)
    }

    fn is_enrolled(&self, host: &Host) -> bool {
        self.cluster.host_dir(host).join(ENROLLED).exists()
    }

    /// Lets a host become a member and starts it, unless it is and runs.
    fn join(&self, host: &Host, role: &str) -> Result<(), Failure> {
        if !self.is_enrolled(host) {
            self.let_in(host, role)?;
        }
        if process_of(self.cluster, host).is_none() {
            self.serve(host)?;
        }
        Ok(())
    }

    /// Lets a host join. What it has on disk is touched only when the cluster has answered.
    fn let_in(&self, host: &Host, role: &str) -> Result<(), Failure> {
        let create = TokenCreate {
            role: role.to_owned(),
            name: Some(host.name.clone()),
            access: None,
            ttl_seconds: Some(TOKEN_SECONDS),
        };
        // A busy machine may be in the middle of an election.
        let patience = self.deadline.saturating_duration_since(Instant::now());
        let client = self.client(self.cluster.endpoints(), patience)?;
        let made = client.token_create(&create)?;
        // A token is good once, and some may be down.
        let is_up = |at: &&String| {
            let of_host = |host: &&Host| format!("{}:{API_PORT}", host.address) == **at;
            let host = self.cluster.hosts.iter().find(of_host);
            host.is_some_and(|host| process_of(self.cluster, host).is_some())
        };
        let at = made.coordinators.iter().find(is_up).or(made.coordinators.first());
        let at = at.ok_or_else(|| Failure::failed("the cluster names no address to join at"))?;
        self.enroll(host, &["join", "--token", &made.token, "--coordinator", at])
    }

    /// Runs `init` or `join` and remembers that it was done; what an earlier attempt left is removed first.
    fn enroll(&self, host: &Host, arguments: &[&str]) -> Result<(), Failure> {
        store::remove_file(&self.cluster.host_dir(host).join(ENROLLED))?;
        store::remove_dir(&self.cluster.host_dir(host).join("data"))?;
        self.programs.run_once(self.cluster, host, arguments)?;
        store::write(&self.cluster.host_dir(host).join(ENROLLED), "")
    }

    fn serve(&self, host: &Host) -> Result<(), Failure> {
        let process = self.programs.serve(self.cluster, host)?;
        notice(&format!("{} at {} (pid {})", host.name, host.address, process.pid));
        Ok(())
    }

    fn client(&self, endpoints: Vec<String>, patience: Duration) -> Result<Client, Failure> {
        let mut config = Config::new(endpoints, self.cluster.operator_dir());
        config.patience = patience;
        Ok(Client::new(&config)?)
    }

    /// Waits until any of those that were started knows who leads, and returns the names of the members.
    fn await_cluster(&self, started: &[&Host]) -> Result<Vec<String>, Failure> {
        let client = self.client(self.cluster.endpoints(), LOOK)?;
        self.await_any(started, || {
            let view = client.cluster().map_err(Failure::from)?;
            let names = view.members.into_iter().map(|member| member.name).collect();
            Ok(view.leader.map(|_| names))
        })
    }

    /// Waits until a coordinator answers for itself that it votes in a cluster with a leader.
    fn await_coordinator(&self, host: &Host) -> Result<(), Failure> {
        let own = format!("https://{}:{}", host.address, API_PORT);
        let client = self.client(vec![own], LOOK)?;
        self.await_ready(host, || {
            let view = client.cluster().map_err(Failure::from)?;
            let own = view.members.iter().find(|member| member.name == host.name);
            Ok(view.leader.is_some() && own.is_some_and(|member| member.role.votes()))
        })
    }

    /// Waits until the coordinators call a node ready.
    fn await_node(&self, host: &Host) -> Result<(), Failure> {
        let client = self.client(self.cluster.endpoints(), LOOK)?;
        self.await_ready(host, || {
            Ok(client.node(&host.name).map_err(Failure::from)?.state == NodeState::Ready)
        })
    }

    fn await_ready(
        &self,
        host: &Host,
        is_ready: impl Fn() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.await_any(&[host], || Ok(is_ready()?.then_some(())))
    }

    /// Waits for news of a host, or of any of several that are as good: until then one of them has to run.
    fn await_any<T>(
        &self,
        hosts: &[&Host],
        news: impl Fn() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let host = hosts.first().ok_or_else(|| Failure::failed("no host was started"))?;
        loop {
            let last = match news() {
                Ok(Some(news)) => return Ok(news),
                Ok(None) => None,
                Err(failure) => Some(failure.message),
            };
            if hosts.iter().all(|host| process_of(self.cluster, host).is_none()) {
                return Err(self.explained(
                    host,
                    Failure::failed(format!("{} of {} has ended", host.role.program(), host.name)),
                ));
            }
            if Instant::now() >= self.deadline {
                let why = last.map(|why| format!(": {why}")).unwrap_or_default();
                let failure = Failure::new(
                    Exit::TimedOut,
                    format!("{} is not ready in time{why}", host.name),
                );
                return Err(self.explained(host, failure));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The same failure, after the end of the log that should explain it.
    fn explained(&self, host: &Host, failure: Failure) -> Failure {
        let path = programs::log_path(self.cluster, host);
        notice(&format!(
            "the last lines of {}:\n{}",
            path.display(),
            log_tail(self.cluster, host, LOG_LINES)
        ));
        failure.hint(format!("the whole log is {}", path.display()))
    }
}
