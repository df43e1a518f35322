//! The programs of a cluster, and the processes that run them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cluster::{Cluster, Host, Isolation, Role};
use super::execute;
use super::network::{self, Argv};
use super::process::Process;
use crate::failure::{Exit, Failure};

/// The variable that names the directory of the programs, instead of that of this one.
const DIRECTORY_VARIABLE: &str = "NOVACRON_BIN_DIR";
/// What guests and their helpers run as.
const GUEST_PROGRAMS: [&str; 2] = ["qemu-system-", "swtpm"];

impl Role {
    /// The program of such a host.
    pub fn program(self) -> &'static str {
        match self {
            Self::Coordinator => "novacron-coordinator",
            Self::Node => "novacron-agent",
        }
    }

    /// The name of its configuration file.
    pub fn config_file(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator.toml",
            Self::Node => "agent.toml",
        }
    }
}

/// The coordinator's program, for a command about this host: found as all are, or by its name alone.
pub fn coordinator_program() -> PathBuf {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from);
    let directory = directory.or_else(|| own_directory().ok()).unwrap_or_default();
    let path = directory.join(Role::Coordinator.program());
    if path.is_file() { path } else { PathBuf::from(Role::Coordinator.program()) }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Finds them: in `NOVACRON_BIN_DIR`, or beside this program.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn find() -> Result<Self, Failure> {
        let directory = match std::env::var_os(DIRECTORY_VARIABLE) {
            Some(directory) => PathBuf::from(directory),
            None => own_directory()?,
        };
        let programs = Self { directory };
        for role in [Role::Coordinator, Role::Node] {
            let path = programs.path(role);
            if !path.is_file() {
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("{} is not there", path.display()),
                )
                .hint(format!(
                    "`cargo build --release` makes it; {DIRECTORY_VARIABLE} names another directory"
                )));
            }
        }
        Ok(programs)
    }

    fn path(&self, role: Role) -> PathBuf {
        self.directory.join(role.program())
    }

    /// Runs a host's program to its end, in the host's namespace: `init` and `join`.
    ///
    /// # Errors
    /// It fails: what it said.
    pub fn run_once(
        &self,
        cluster: &Cluster,
        host: &Host,
        arguments: &[&str],
    ) -> Result<(), Failure> {
        execute::execute(&self.argv(cluster, host, arguments)).map(drop)
    }

    /// Starts a host's program for good and keeps its process in the host's pid file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn serve(&self, cluster: &Cluster, host: &Host) -> Result<Process, Failure> {
        let mut argv = self.argv(cluster, host, &["serve"]);
        // Out of the terminal's session, so that neither Ctrl-C nor its end reaches the cluster.
        argv.insert(0, "setsid".to_owned());
        let process = spawn(&argv, &log_path(cluster, host))?;
        process.write_file(&pid_path(cluster, host)).map_err(|error| {
            Failure::io(format_args!("cannot keep the pid of {}", host.name), &error)
        })?;
        Ok(process)
    }

    fn argv(&self, cluster: &Cluster, host: &Host, arguments: &[&str]) -> Argv {
        let mut argv = network::enter(cluster, host);
        argv.push(self.path(host.role).display().to_string());
        argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
        argv.push("--config".to_owned());
        argv.push(config_path(cluster, host).display().to_string());
        argv
    }
}

fn own_directory() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize());
    let own =
        own.map_err(|error| Failure::io("cannot find this program's own directory", &error))?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

fn spawn(argv: &Argv, log: &Path) -> Result<Process, Failure> {
    let what = || format!("cannot start `{}`", argv.join(" "));
    let open = || File::options().create(true).append(true).open(log);
    let (out, err) = (open(), open());
    let (Ok(out), Ok(err)) = (out, err) else {
        return Err(Failure::failed(format!("cannot write {}", log.display())));
    };
    // The log is a file: without this it would be coloured.
    let child = Command::new(&argv[0])
        .env("NO_COLOR", "1")
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|error| Failure::io(what(), &error))?;
    Process::of_child(&child).ok_or_else(|| Failure::failed(format!("{}: it is gone", what())))
}

/// The configuration file of a host.
pub fn config_path(cluster: &Cluster, host: &Host) -> PathBuf {
    cluster.host_dir(host).join(host.role.config_file())
}

/// The log of a host.
pub fn log_path(cluster: &Cluster, host: &Host) -> PathBuf {
    cluster.host_dir(host).join("log")
}

fn pid_path(cluster: &Cluster, host: &Host) -> PathBuf {
    cluster.host_dir(host).join("pid")
}

/// The process of a host, if it lives.
pub fn process_of(cluster: &Cluster, host: &Host) -> Option<Process> {
    Process::from_file(&pid_path(cluster, host))
}

/// Every process that the cluster has on this machine, guests included.
pub fn processes_of(cluster: &Cluster) -> Vec<Process> {
    let recorded = cluster.hosts.iter().filter_map(|host| process_of(cluster, host));
    let mut processes: Vec<_> = recorded.collect();
    let inside = processes_inside(cluster);
    for process in super::process::all() {
        let is_inside = inside.contains(&process.pid);
        if !processes.contains(&process) && (is_inside || is_of(&process.arguments(), &cluster.dir))
        {
            processes.push(process);
        }
    }
    processes
}

/// Processes in the cluster's namespaces: all of these are its own, whatever they run.
fn processes_inside(cluster: &Cluster) -> Vec<u32> {
    let lists = cluster.hosts.iter().filter_map(|host| network::list_processes(cluster, host));
    let texts = lists.filter_map(|list| execute::execute(&list).ok());
    texts
        .flat_map(|text| {
            text.lines().filter_map(|line| line.trim().parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether a command line is one of ours: a program of NovaCron's or a guest's that was told a path of the
/// directory. Somebody's editor or `tail` on a file in it is not.
fn is_of(arguments: &[String], dir: &Path) -> bool {
    let [program, arguments @ ..] = arguments else { return false };
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let is_known = [Role::Coordinator, Role::Node].iter().any(|role| name == role.program())
        || GUEST_PROGRAMS.iter().any(|known| name.starts_with(known));
    let inside = format!("{}/", dir.display());
    is_known && arguments.iter().any(|argument| argument.contains(&inside))
}

/// The last lines of a host's log.
pub fn log_tail(cluster: &Cluster, host: &Host, lines: usize) -> String {
    let text = std::fs::read(log_path(cluster, host)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether this process may make network namespaces.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// How a cluster's hosts are kept apart, for a person.
pub fn isolation_text(isolation: Isolation) -> String {
    match isolation {
        Isolation::Namespaces { link: Some(rate) } => {
            format!("a network namespace and a {rate} link each")
        }
        Isolation::Namespaces { link: None } => {
            "a network namespace each, links unshaped".to_owned()
        }
        Isolation::Loopback => {
            "a loopback address each; links are not shaped without root".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::cluster;
    use super::*;

    fn arguments(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_our_programs_on_paths_of_the_directory_are_ours() {
        let ours = |line: &str| is_of(&arguments(line), Path::new("/tmp/one"));
        assert!(ours("/x/novacron-agent serve --config /tmp/one/node-01/agent.toml"));
        assert!(ours("qemu-system-x86_64 -qmp unix:/tmp/one/node-01/data/run/vm/qmp,server"));
        assert!(!ours("/x/novacron-agent serve --config /tmp/one-more/node-01/agent.toml"));
        assert!(!ours("tail -f /tmp/one/node-01/log"));
        assert!(!ours("qemu-system-x86_64 -drive file=/tmp/two/disk"));
        assert!(!is_of(&[], Path::new("/tmp/one")));
    }

    #[test]
    fn a_program_runs_in_its_hosts_namespace_with_its_configuration() {
        let cluster = cluster(Isolation::Namespaces { link: None });
        let programs = Programs { directory: "/bin".into() };
        let argv = programs.argv(&cluster, cluster.host("node-01").unwrap(), &["serve"]);
        let expected = format!(
            "ip netns exec {}-node-01 /bin/novacron-agent serve --config /tmp/one/node-01/agent.toml",
            cluster.tag
        );
        assert_eq!(argv.join(" "), expected);
    }
}
