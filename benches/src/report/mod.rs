//! Results for people, for programs and for the repository.

mod machine;
mod results;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use machine::Machine;
pub use results::record;
pub use table::line;

use crate::bar::{Bar, Field, Judged};
use crate::measurement::{Figures, Measurement, medians};
use crate::peer::Mode;
use crate::schedule::Contender;
use crate::workload::Workload;

/// Everything that a comparison found.
#[derive(Debug, Serialize)]
pub struct Comparison {
    link: String,
    workload: Workload,
    machine: Machine,
    contenders: Vec<Contestant>,
    verdict: Vec<Judged>,
    remarks: Vec<String>,
}

/// A contender and its runs.
#[derive(Debug, Serialize)]
struct Contestant {
    name: Contender,
    runs: Vec<Measurement>,
    medians: Option<Figures>,
}

impl Comparison {
    /// Draws the sum; `runs` are in the order in which they were made. The best peer is the one to be beaten.
    pub fn new(
        link: String,
        workload: Workload,
        machine: Machine,
        bar: &Bar,
        runs: Vec<(Contender, Measurement)>,
    ) -> Self {
        let contenders = by_contender(runs);
        let verdict = judge(bar, &contenders);
        Self { link, workload, machine, contenders, verdict, remarks: Vec::new() }
    }

    /// The same with what its reader must know beside [`table::METHOD`].
    pub fn with_remarks(self, remarks: Vec<String>) -> Self {
        Self { remarks, ..self }
    }

    /// Whether a bar was missed. One side alone misses none.
    pub fn is_missed(&self) -> bool {
        self.verdict.iter().any(|judged| !judged.is_met())
    }

    /// What was compared, in a line.
    pub fn title(&self) -> String {
        format!("{}, {}", self.link, self.workload)
    }

    /// The figures, as Markdown that can be read as it is.
    pub fn table(&self) -> String {
        table::comparison(self)
    }

    /// The medians of ours, if it took part.
    pub fn ours(&self) -> Option<Figures> {
        self.contenders.iter().find(|one| one.name == Contender::Ours)?.medians
    }

    /// All that another needs to judge the figures or to measure again.
    pub fn section(&self, command: &str) -> String {
        self.section_with(command, &self.table())
    }

    /// The same around another table.
    fn section_with(&self, command: &str, table: &str) -> String {
        let method = [&[table::METHOD.to_owned()], &*self.remarks].concat().join("\n\n");
        format!("{}\n\n{method}\n\nCommand: `{command}`\n\n{table}", self.machine)
    }

    /// Puts a scenario of the suite that has a table of its own into the repository's results.
    pub fn record_scenario(&self, name: &str, title: &str, runs: u32, table: &str) -> Result<()> {
        let command = format!("cargo xtask bench suite --only {name} --runs {runs} --record");
        let body = self.section_with(&command, table);
        record(Path::new(env!("CARGO_MANIFEST_DIR")), title, &body)
    }
}

/// Ours beside the peers' figures and the bar; nothing without either.
fn judge(bar: &Bar, contenders: &[Contestant]) -> Vec<Judged> {
    let figures = |name| contenders.iter().find(|one| one.name == name)?.medians.as_ref();
    let Some(ours) = figures(Contender::Ours) else { return Vec::new() };
    let is_peer = |one: &&Contestant| one.name != Contender::Ours;
    let peers: Vec<_> = contenders.iter().filter(is_peer).filter_map(|one| one.medians).collect();
    let both =
        |without, with| Some((figures(Contender::Peer(without))?, figures(Contender::Peer(with))?));
    let multifd = both(Mode::Multifd, Mode::MultifdZstd)
        .or_else(|| both(Mode::MultifdTls, Mode::MultifdZstdTls));
    bar.judge(&Field { ours, peers: &peers, multifd })
}

/// In the order in which they first ran.
fn by_contender(runs: Vec<(Contender, Measurement)>) -> Vec<Contestant> {
    let mut order = Vec::new();
    let mut grouped: BTreeMap<usize, Vec<Measurement>> = BTreeMap::new();
    for (name, measurement) in runs {
        let at = order.iter().position(|known| *known == name).unwrap_or_else(|| {
            order.push(name);
            order.len() - 1
        });
        grouped.entry(at).or_default().push(measurement);
    }
    let contestant = |(at, runs): (usize, Vec<Measurement>)| Contestant {
        name: order[at],
        medians: medians(&runs),
        runs,
    };
    grouped.into_iter().map(contestant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bar::tests::BAR;
    use crate::network::WireBytes;
    use crate::workload::tests::workload;

    const PEER: Contender = Contender::Peer(Mode::MultifdZstd);
    const PLAIN: Contender = Contender::Peer(Mode::Plain);

    fn run(total_ms: f64) -> Measurement {
        let wire = WireBytes { shaped: 100 << 20, interfaces: 96 << 20 };
        Measurement { total_ms, memory_ms: total_ms, downtime_ms: 50.0, wire, ..Default::default() }
    }

    fn compare(runs: Vec<(Contender, Measurement)>) -> Comparison {
        Comparison::new("1gbit".into(), workload(), Machine::default(), &BAR, runs)
    }

    #[test]
    fn ours_is_judged_by_the_best_peer() {
        let runs = vec![
            (PEER, run(1000.0)),
            (PLAIN, run(9000.0)),
            (Contender::Ours, run(1100.0)),
            (PEER, run(1000.0)),
            (PLAIN, run(9000.0)),
            (Contender::Ours, run(1300.0)),
        ];
        let comparison = compare(runs);
        assert!(!comparison.is_missed());
        let table = comparison.table();
        assert!(table.contains("| QEMU multifd-zstd | 1000 |"), "{table}");
        assert!(table.contains("| NovaCron | 1200 (1100–1300) |"), "{table}");
        assert!(table.contains("| total time | 1.20 | 1.20 | met |"), "{table}");
    }

    #[test]
    fn a_missed_bar_is_said() {
        let comparison = compare(vec![(PEER, run(1000.0)), (Contender::Ours, run(1201.0))]);
        assert!(comparison.is_missed());
        assert!(comparison.table().contains("MISSED"), "{}", comparison.table());
    }

    #[test]
    fn remarks_are_part_of_the_section() {
        let comparison = compare(vec![(PEER, run(1000.0))]).with_remarks(vec!["Mind this.".into()]);
        let section = comparison.section("cargo xtask bench");
        assert!(section.contains("Mind this.\n\nCommand: `cargo xtask bench`"), "{section}");
    }

    #[test]
    fn one_side_alone_is_not_judged() {
        let comparison = compare(vec![(PEER, run(1000.0))]);
        assert!(!comparison.is_missed());
        assert!(!comparison.table().contains("met"), "{}", comparison.table());
        assert_eq!(
            comparison.title(),
            "1gbit, 512 MiB guest, 256 MiB working set, 50 MB/s of small updates"
        );
    }
}
