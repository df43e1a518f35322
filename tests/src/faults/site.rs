//! The cluster under fire: its coordinators, each in a network namespace of its own, on disks that forget what was not
//! synced, and its agents in theirs; and what can be done to them from outside.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use novacron_protocol::node::NodeState;
use novacron_sdk::api::ClusterView;
use novacron_sdk::{Client, Config};
use novacron_storage::disk::UNSYNCED;
use serde_json::Value;

use crate::dev_cluster::DevCluster;
use crate::place::Place;
use crate::wait::until;

/// Coordinators.
pub const MEMBERS: [&str; 3] = ["coordinator-1", "coordinator-2", "coordinator-3"];

/// Agents.
pub const NODES: [&str; 2] = ["node-01", "node-02"];

/// A host: coordinators first, in the order of [`MEMBERS`], then agents.
pub type HostNumber = usize;

/// How long an agent may be silent until its node is suspect, and down: shorter than usual, since each fault of an agent
/// waits for that.
const SUSPECT_AFTER_MS: u64 = 2_000;
const DOWN_AFTER_MS: u64 = 6_000;

/// What each sync takes longer before a power cut: so there is something that it takes.
const SYNC_BEFORE_POWER_CUT: Duration = Duration::from_millis(50);

/// Within which a cluster that is whole again must be of use: an election, a snapshot, a busy machine.
const HEALING: Duration = Duration::from_secs(90);

/// For how long a client that asks one member alone waits for it.
const ONE_MEMBER_PATIENCE: Duration = Duration::from_secs(2);

/// A running cluster and what it was made of.
#[derive(Debug)]
pub struct Site {
    cluster: DevCluster,
    tag: String,
    addresses: Vec<String>,
    began: Instant,
    power: Power,
}

/// What power cuts took.
#[derive(Debug, Default)]
struct Power {
    cuts: AtomicU64,
    bytes: AtomicU64,
}

impl Site {
    /// Brings one up.
    ///
    /// # Errors
    /// It cannot be brought up, or this machine cannot give hosts network namespaces.
    pub fn up() -> Result<Self> {
        let began = Instant::now();
        let cluster = DevCluster::up(MEMBERS.len() as u8, NODES.len() as u8)?;
        let record = fs::read_to_string(cluster.directory().join("dev.json"))?;
        let record: Value = serde_json::from_str(&record)?;
        ensure!(
            !record["isolation"]["namespaces"].is_null(),
            "faults of the network need network namespaces: run this as root"
        );
        let tag = record["tag"].as_str().context("dev.json has no tag")?.to_owned();
        let hosts = record["hosts"].as_array().context("dev.json has no hosts")?;
        let address = |name: &&str| {
            let host = hosts.iter().find(|host| host["name"] == **name);
            let address = host.and_then(|host| host["address"].as_str());
            address.map(str::to_owned).context("dev.json has no address of a host")
        };
        let addresses = MEMBERS.iter().chain(&NODES).map(address).collect::<Result<_>>()?;
        let site = Self { cluster, tag, addresses, began, power: Power::default() };
        for member in 0..MEMBERS.len() {
            site.give_forgetful_disk(member)?;
        }
        site.until_whole()?;
        site.until_nodes_are_ready()?;
        Ok(site)
    }

    /// The clock of histories.
    pub fn clock(&self) -> Clock {
        Clock(self.began)
    }

    /// Tells the reader of a failed test what was done when.
    pub fn note(&self, text: &str) {
        eprintln!("{:>9.3} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Prints the ends of all logs.
    pub fn print_logs(&self) {
        self.cluster.print_logs();
    }

    /// The cluster's own command.
    pub fn cluster(&self) -> &DevCluster {
        &self.cluster
    }

    /// Power cuts so far, and the bytes that disks forgot in them.
    pub fn power_cuts(&self) -> (u64, u64) {
        (self.power.cuts.load(Ordering::Relaxed), self.power.bytes.load(Ordering::Relaxed))
    }

    fn host_directory(&self, host: HostNumber) -> PathBuf {
        self.cluster.directory().join(name(host))
    }

    fn faults_directory(&self, member: usize) -> PathBuf {
        self.host_directory(member).join("faults")
    }

    /// Restarts a member on a disk that forgets what was not synced when its process is killed.
    fn give_forgetful_disk(&self, member: usize) -> Result<()> {
        let faults = self.faults_directory(member);
        fs::create_dir_all(&faults)?;
        let path = self.host_directory(member).join("coordinator.toml");
        let mut settings = OpenOptions::new().append(true).open(path)?;
        writeln!(settings, "\n[test_disk]\nfaults_directory = {:?}", faults)?;
        let (suspect, down) = (SUSPECT_AFTER_MS, DOWN_AFTER_MS);
        writeln!(settings, "\n[agents]\nsuspect_after_ms = {suspect}\ndown_after_ms = {down}")?;
        self.stop(member)?;
        self.start(member)
    }

    /// Ends the processes of some members as a power cut would, at a moment at which there is something that they have not
    /// synced: it is lost. Answers how many bytes that were, in all.
    ///
    /// # Errors
    /// Nothing of one runs, or nothing is written.
    pub fn cut_power(&self, members: &[usize]) -> Result<u64> {
        let delay_ms = SYNC_BEFORE_POWER_CUT.as_millis().to_string();
        for member in members {
            self.set_disk_fault(*member, "sync_delay_ms", &delay_ms)?;
        }
        until("a disk holds what is not synced", HEALING, || {
            // It stands still while it is looked at: nothing is synced between the look and the end.
            self.freeze(members)?;
            if self.unsynced_bytes(members)? > 0 {
                return Ok(Some(()));
            }
            members.iter().try_for_each(|member| self.signal(*member, "CONT"))?;
            Ok(None)
        })?;
        let bytes = self.unsynced_bytes(members)?;
        members.iter().try_for_each(|member| self.kill(*member))?;
        members.iter().try_for_each(|member| self.heal_disk(*member))?;
        self.power.cuts.fetch_add(1, Ordering::Relaxed);
        self.power.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.note(&format!("{bytes} bytes were not synced, and are lost"));
        Ok(bytes)
    }

    /// Kills a member's process at a moment at which everything that it wrote is with the operating system, synced or not.
    ///
    /// # Errors
    /// Nothing of it runs, or it goes on keeping something for itself.
    pub fn kill_keeping(&self, member: usize) -> Result<()> {
        self.set_disk_fault(member, "keeps", "")?;
        until("nothing is in the process only", HEALING, || {
            self.freeze(&[member])?;
            if self.unsynced_bytes(&[member])? == 0 {
                return Ok(Some(()));
            }
            self.signal(member, "CONT")?;
            Ok(None)
        })?;
        self.kill(member)?;
        self.heal_disk(member)
    }

    fn freeze(&self, hosts: &[HostNumber]) -> Result<()> {
        hosts.iter().try_for_each(|host| self.signal(*host, "STOP"))?;
        hosts.iter().try_for_each(|host| self.until_it_stands(*host))
    }

    /// Waits until a host's process stands still.
    ///
    /// # Errors
    /// It does not.
    pub fn until_it_stands(&self, host: HostNumber) -> Result<()> {
        until("it stands still", HEALING, || {
            Ok(self.process_state(host).filter(|state| *state == 'T').map(drop))
        })
    }

    /// What the disks of some members would forget now.
    fn unsynced_bytes(&self, members: &[usize]) -> Result<u64> {
        let of_one = |member: &usize| -> Result<u64> {
            let text = fs::read_to_string(self.faults_directory(*member).join(UNSYNCED))?;
            Ok(text.split_whitespace().next().context("an empty count")?.parse()?)
        };
        members.iter().map(of_one).sum()
    }

    /// Kills a host's process.
    ///
    /// # Errors
    /// Nothing of it runs.
    pub fn kill(&self, host: HostNumber) -> Result<()> {
        self.signal(host, "KILL")
    }

    /// Asks a member to stop, and waits for it.
    ///
    /// # Errors
    /// Nothing of it runs, or it does not end.
    pub fn stop(&self, member: usize) -> Result<()> {
        self.signal(member, "TERM")?;
        until("the member has ended", HEALING, || Ok((!self.runs(member)).then_some(())))
    }

    /// Sends a host's process a signal.
    ///
    /// # Errors
    /// Nothing of it runs.
    pub fn signal(&self, host: HostNumber, signal: &str) -> Result<()> {
        self.cluster.dev(&["kill", name(host), "--signal", signal]).map(drop)
    }

    /// Starts a host's process.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&self, host: HostNumber) -> Result<()> {
        let allowed = [("NOVACRON_ALLOW_TEST_DISK", "1")];
        self.cluster.dev_with(&["start", name(host)], &allowed).map(drop)
    }

    /// Whether a host's process is there.
    pub fn runs(&self, host: HostNumber) -> bool {
        self.process_state(host).is_some()
    }

    /// The letter that the system has for the state of a host's process; nothing if it has ended.
    pub fn process_state(&self, host: HostNumber) -> Option<char> {
        let recorded = fs::read_to_string(self.host_directory(host).join("pid")).ok()?;
        let (pid, started) = recorded.trim().split_once(' ')?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        // Field 22 of all is when it started; the first of these is the third. A number may be somebody else's by now.
        let state = fields.first()?.chars().next()?;
        let is_there = !matches!(state, 'Z' | 'X') || has_threads_left(pid);
        (fields.get(19) == Some(&started) && is_there).then_some(state)
    }

    /// Lets two hosts lose every packet to each other.
    ///
    /// # Errors
    /// The links cannot be changed.
    pub fn cut(&self, one: HostNumber, other: HostNumber) -> Result<()> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Lets every packet from one host to another be lost; the other way goes on. The neighbour is given the
    /// sender's own hardware address, so the switch drops the frame.
    ///
    /// # Errors
    /// The links cannot be changed.
    pub fn cut_one_way(&self, from: HostNumber, to: HostNumber) -> Result<()> {
        let namespace = self.namespace(from);
        let own = hardware_address(&self.addresses[from])?;
        let neighbour = ["neigh", "replace", &self.addresses[to], "lladdr", &own];
        ip(&[&["-n", &namespace][..], &neighbour, &["nud", "permanent", "dev", "eth0"]].concat())
    }

    /// Lets all hosts reach each other again.
    ///
    /// # Errors
    /// The links cannot be changed.
    pub fn join_all(&self) -> Result<()> {
        let hosts = MEMBERS.len() + NODES.len();
        for from in 0..hosts {
            for to in (0..hosts).filter(|to| *to != from) {
                let namespace = self.namespace(from);
                let neighbour = ["neigh", "del", &self.addresses[to], "dev", "eth0"];
                // Fails where nothing is known of the neighbour, which is as well.
                let _ = ip(&[&["-n", &namespace][..], &neighbour].concat());
            }
        }
        Ok(())
    }

    fn namespace(&self, host: HostNumber) -> String {
        format!("{}-{}", self.tag, name(host))
    }

    /// Sets what a member's disk shall do: `full`, or `sync_delay_ms` with a number.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_disk_fault(&self, member: usize, name: &str, content: &str) -> Result<()> {
        Ok(fs::write(self.faults_directory(member).join(name), content)?)
    }

    /// Lets a member's disk be as it should.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn heal_disk(&self, member: usize) -> Result<()> {
        for entry in fs::read_dir(self.faults_directory(member))? {
            let entry = entry?;
            // The disk's own word.
            if entry.file_name() != UNSYNCED {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Flips a bit in the middle of a member's newest log segment, which must not run.
    ///
    /// # Errors
    /// There is no log.
    pub fn damage_log(&self, member: usize) -> Result<()> {
        let directory = self.host_directory(member).join("data/log");
        let files = fs::read_dir(&directory)?.map(|entry| entry.map(|entry| entry.path()));
        let newest = files.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let newest = newest.context("the member has no log")?;
        let mut bytes = fs::read(&newest)?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("the log is empty")? ^= 0x10;
        Ok(fs::write(newest, bytes)?)
    }

    /// Removes everything that a member has on disk, which must not run, and lets it join under a new id.
    ///
    /// # Errors
    /// It runs, or the others do not let it join.
    pub fn rejoin(&self, member: usize) -> Result<()> {
        let allowed = [("NOVACRON_ALLOW_TEST_DISK", "1")];
        self.cluster.dev_with(&["rejoin", MEMBERS[member]], &allowed).map(drop)
    }

    /// Takes the member of that name out of the cluster.
    ///
    /// # Errors
    /// It is not there, or the cluster refuses.
    pub fn remove_from_cluster(&self, member: usize) -> Result<()> {
        let view = self.client()?.cluster()?;
        let found = view.members.iter().find(|view| view.name == MEMBERS[member]);
        let id = found.context("no such member")?.id;
        self.client()?.member_remove(id)?;
        Ok(())
    }

    /// What a member wrote last.
    pub fn log_tail(&self, member: usize) -> String {
        let log = fs::read_to_string(self.host_directory(member).join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// A client of the whole cluster.
    ///
    /// # Errors
    /// Its configuration cannot be used.
    pub fn client(&self) -> Result<Client> {
        self.cluster.client()
    }

    /// A client that asks the members in an order of its own.
    ///
    /// # Errors
    /// Its configuration cannot be used.
    pub fn client_preferring(&self, member: usize) -> Result<Client> {
        let order = (0..MEMBERS.len()).map(|at| (member + at) % MEMBERS.len());
        let endpoints = order.map(|at| format!("https://{}:7443", self.addresses[at])).collect();
        let operator = self.cluster.directory().join("operator");
        Ok(Client::new(&Config::new(endpoints, operator))?)
    }

    /// What one member says of the cluster, if it can answer.
    pub fn view_of(&self, member: usize) -> Option<ClusterView> {
        let endpoint = format!("https://{}:7443", self.addresses[member]);
        let operator = self.cluster.directory().join("operator");
        let mut config = Config::new(vec![endpoint], operator);
        config.patience = ONE_MEMBER_PATIENCE;
        Client::new(&config).ok()?.cluster().ok()
    }

    /// The member that leads.
    ///
    /// # Errors
    /// Nobody does within reason.
    pub fn leader(&self) -> Result<usize> {
        until("somebody leads", HEALING, || {
            let Ok(view) = self.client()?.cluster() else { return Ok(None) };
            let leader = view.members.iter().find(|member| Some(member.id) == view.leader);
            Ok(leader.and_then(|leader| MEMBERS.iter().position(|name| *name == leader.name)))
        })
    }

    /// What the fleet says of a node.
    ///
    /// # Errors
    /// Nobody answers, or there is no such node.
    pub fn node_state(&self, node: usize) -> Result<NodeState> {
        let nodes = self.client()?.nodes()?;
        let found = nodes.iter().find(|view| view.name.as_str() == NODES[node]);
        Ok(found.context("no such node")?.state)
    }

    /// Waits until every agent is heard.
    ///
    /// # Errors
    /// One is not within reason.
    pub fn until_nodes_are_ready(&self) -> Result<()> {
        (0..NODES.len()).try_for_each(|node| {
            until("its agent is heard", HEALING, || {
                Ok((self.node_state(node)? == NodeState::Ready).then_some(()))
            })
            .with_context(|| format!("{} is not ready", NODES[node]))
        })
    }

    /// Whether the guest of a machine runs on a node, as the node's own system has it.
    pub fn guest_runs(&self, node: usize, vm: &str) -> bool {
        let place = Place::new(self.cluster.directory(), &self.tag, NODES[node], vm);
        place.qemu_runs()
    }

    /// Waits until every member answers for itself that it votes, in a cluster of just these.
    ///
    /// # Errors
    /// One does not within reason.
    pub fn until_whole(&self) -> Result<()> {
        for (member, name) in MEMBERS.iter().enumerate() {
            until("every member votes", HEALING, || {
                let Some(view) = self.view_of(member) else { return Ok(None) };
                let votes = view.members.iter().filter(|member| member.role.votes());
                Ok((view.leader.is_some() && votes.count() == MEMBERS.len()).then_some(()))
            })
            .with_context(|| format!("{name} is not whole"))?;
        }
        Ok(())
    }
}

/// The name of a host.
pub fn name(host: HostNumber) -> &'static str {
    match MEMBERS.get(host) {
        Some(member) => member,
        None => NODES[host - MEMBERS.len()],
    }
}

/// Tells how long a cluster is up.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Nanoseconds since the cluster was made.
    pub fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Whether threads of a process whose first has ended wait for the disk: until the last is gone it holds its files.
fn has_threads_left(pid: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() > 1)
}

/// The hardware address that `novacron dev` gives a host: locally administered, ending in its address.
fn hardware_address(address: &str) -> Result<String> {
    let address: std::net::Ipv4Addr = address.parse()?;
    let [a, b, c, d] = address.octets();
    Ok(format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"))
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}`: {said}", arguments.join(" "));
    }
    Ok(())
}
