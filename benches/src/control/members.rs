//! What coordinators take of the machine while something is measured: processors and memory, each member for itself.

use std::time::Instant;

use anyhow::{Context, Result};

use super::cluster::Cluster;
use crate::watch::{Processors, resident_bytes_max};

/// Bytes of a MiB, as figures are said.
const MIB: f64 = (1 << 20) as f64;

/// What a member took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// Whether it led.
    pub leads: bool,
    /// Processors that it kept busy, on the average.
    pub processors: f64,
    /// The most memory that it has had resident, since it began, in MiB.
    pub memory_mib_max: f64,
}

/// Members that are watched.
#[derive(Debug)]
pub struct Watched {
    members: Vec<(u32, bool, f64)>,
    began: Instant,
}

impl Watched {
    /// From now on.
    pub fn begin(cluster: &Cluster) -> Result<Self> {
        let leader = cluster.leader()?;
        let member = |at| {
            let process = cluster.process(at)?;
            Ok((process, at == leader, spent_s(process)?))
        };
        let members = cluster.running().map(member).collect::<Result<_>>()?;
        Ok(Self { members, began: Instant::now() })
    }

    /// Until now. A member that has ended in between is an error.
    pub fn end(&self) -> Result<Vec<Taken>> {
        let elapsed_s = self.began.elapsed().as_secs_f64();
        let taken = |&(process, leads, before_s): &(u32, bool, f64)| {
            let processors = (spent_s(process)? - before_s) / elapsed_s;
            Ok(Taken { leads, processors, memory_mib_max: memory_mib_max(process)? })
        };
        self.members.iter().map(taken).collect()
    }
}

fn spent_s(process: u32) -> Result<f64> {
    Ok(Processors { processes: vec![process], except: Vec::new() }.spent()?.0)
}

/// The most memory that a process has had resident, in MiB.
pub fn memory_mib_max(process: u32) -> Result<f64> {
    Ok(resident_bytes_max(process).context("the memory of a coordinator")? as f64 / MIB)
}

/// Members as rows of Markdown.
pub fn table(members: &[Taken]) -> String {
    let mut text = String::from("\n| coordinator | processors | memory MiB |\n|---|---|---|\n");
    for (number, member) in (1..).zip(members) {
        let role = if member.leads { "leader" } else { "follower" };
        let Taken { processors, memory_mib_max, .. } = member;
        text.push_str(&format!("| {number}, {role} | {processors:.2} | {memory_mib_max:.0} |\n"));
    }
    let all: f64 = processors(members);
    text.push_str(&format!("| all | {all:.2} | – |\n"));
    text
}

/// Processors of all together.
pub fn processors(members: &[Taken]) -> f64 {
    members.iter().map(|member| member.processors).sum()
}

/// Processors of the leader. Without one it is no number, which meets no bar.
pub fn leaders_processors(members: &[Taken]) -> f64 {
    members.iter().find(|member| member.leads).map_or(f64::NAN, |member| member.processors)
}

/// The most memory of any, in MiB.
pub fn largest_mib(members: &[Taken]) -> f64 {
    members.iter().map(|member| member.memory_mib_max).fold(f64::NAN, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_leader_the_largest_and_all() {
        let taken = |leads, processors, memory_mib_max| Taken { leads, processors, memory_mib_max };
        let members = [taken(false, 0.25, 900.0), taken(true, 0.5, 700.0), taken(false, 0.25, 1.0)];
        assert_eq!(processors(&members), 1.0);
        assert_eq!(leaders_processors(&members), 0.5);
        assert_eq!(largest_mib(&members), 900.0);
        assert!(leaders_processors(&[]).is_nan() && largest_mib(&[]).is_nan());
        assert!(table(&members).contains("| 2, leader | 0.50 | 700 |\n"));
    }
}
