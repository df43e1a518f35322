//! What this machine shows of one machine at one node: its process, its files, its sockets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// One machine at one node, whether it is there or not.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node.
    pub node: String,
    directory: PathBuf,
    memory: PathBuf,
    vm: String,
}

impl Place {
    /// The place of machine `vm` at `node` of the development cluster in `directory` with that tag.
    pub fn new(directory: &Path, tag: &str, node: &str, vm: &str) -> Self {
        Self {
            node: node.to_owned(),
            directory: directory.join(node),
            memory: Path::new("/dev/shm").join(format!("{tag}-{node}")),
            vm: vm.to_owned(),
        }
    }

    /// The socket of QEMU's monitor for operators.
    pub fn monitor(&self) -> PathBuf {
        self.run().join("o.sock")
    }

    /// The file of a disk.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.directory.join("data/vms").join(&self.vm).join(name)
    }

    fn run(&self) -> PathBuf {
        self.directory.join("data/run").join(&self.vm)
    }

    /// What is left of the machine here: files, directories and sockets that bear its name, and processes that
    /// were told of them. The agent's records are not part of it: a refusal is remembered for ever. Nor are disks that
    /// the machine once had: nothing runs from them.
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        let except = ["data/records", "data/former"].map(|name| self.directory.join(name));
        for root in [&self.directory, &self.memory] {
            collect(root, &self.vm, &except, &mut found);
        }
        found.extend(processes(&self.run().to_string_lossy()));
        found
    }

    /// Whether the machine's QEMU is there.
    pub fn qemu_runs(&self) -> bool {
        self.qemu().is_ok_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    /// Kills the machine's QEMU as the system's memory killer would.
    ///
    /// # Errors
    /// There is none.
    pub fn kill_qemu(&self) -> Result<()> {
        Ok(kill_process(self.qemu()?, Signal::KILL)?)
    }

    fn qemu(&self) -> Result<Pid> {
        let file = self.run().join("qemu.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        text.trim().parse().ok().and_then(Pid::from_raw).context("not a pid")
    }
}

fn collect(directory: &Path, mark: &str, except: &[PathBuf], found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if except.contains(&path) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(mark) {
            found.push(path.display().to_string());
        }
        if path.is_dir() {
            collect(&path, mark, except, found);
        }
    }
}

/// Processes whose command line names that path.
fn processes(path: &str) -> Vec<String> {
    let names_it = |pid: &String| {
        // One that ends meanwhile is none.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(path)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(names_it)
        .map(|pid| format!("process {pid}"))
        .collect()
}
