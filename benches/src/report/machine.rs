//! The machine that the figures are of.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use novacron_protocol::time::Timestamp;
use serde::Serialize;

use crate::execute::{argv, execute};

/// What a figure depends on beside the programs. What cannot be found out is empty.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
    qemu: String,
    commit: String,
    load: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let date =
            Timestamp::from_unix_ms(u64::try_from(since_1970.as_millis()).unwrap_or(0)).to_string();
        Self {
            date: date.split('T').next().unwrap_or_default().to_owned(),
            processor: processor(&read("/proc/cpuinfo")).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            qemu: first_line(&execute(&argv("qemu-system-x86_64 --version")).unwrap_or_default())
                .to_owned(),
            commit: commit(),
            load: load(&read("/proc/loadavg")),
        }
    }

    /// The same for figures in which no guest has a part, beside these programs.
    pub fn without_guests(&self, programs: &str) -> String {
        format!("{}, {programs}; load before the first run {}.", self.hardware(), self.load)
    }

    fn hardware(&self) -> String {
        let Self { date, processor, cores, kernel, commit, .. } = self;
        format!("{date}, commit {commit}; {cores} cores ({processor}), Linux {kernel}")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (here, Self { qemu, load, .. }) = (self.hardware(), self);
        write!(f, "{here}, {qemu}, guests emulated (TCG); load before the first run {load}.")
    }
}

/// Load averages of the last 1, 5 and 15 minutes.
fn load(loadavg: &str) -> String {
    loadavg.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn processor(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("", |(_, name)| name.trim())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn commit() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let git = format!("git -C {} describe --always --dirty", root.display());
    execute(&argv(&git)).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_cut_out() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\n";
        assert_eq!(processor(cpuinfo), "AMD EPYC");
        assert_eq!(processor(""), "");
        assert_eq!(load("0.50 1.00 2.00 1/200 4242\n"), "0.50 1.00 2.00");
        assert_eq!(first_line("QEMU emulator version 10\nCopyright"), "QEMU emulator version 10");
    }
}
