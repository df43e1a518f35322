//! Results for people, for programs and for the repository.

mod machine;
mod results;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

pub use machine::Machine;
pub use results::put_section;
pub use table::line;

use crate::bar::{Bar, Verdict};
use crate::measurement::{Figures, Measurement, medians};
use crate::schedule::Contender;
use crate::workload::Workload;

/// Everything that a comparison found.
#[derive(Debug, Serialize)]
pub struct Comparison {
    link: String,
    workload: Workload,
    machine: Machine,
    contenders: Vec<Contestant>,
    verdict: Option<Verdict>,
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
        let figures = |is_it: fn(&Contender) -> bool| -> Vec<Figures> {
            let those = contenders.iter().filter(|contestant| is_it(&contestant.name));
            those.filter_map(|contestant| contestant.medians).collect()
        };
        let ours = figures(|name| *name == Contender::Ours);
        let peers = figures(|name| matches!(name, Contender::Peer(_)));
        let verdict = ours.first().and_then(|ours| bar.judge(ours, &peers));
        Self { link, workload, machine, contenders, verdict }
    }

    /// Whether a bar was missed. One side alone misses none.
    pub fn is_missed(&self) -> bool {
        self.verdict.is_some_and(|verdict| !verdict.is_met())
    }

    /// What was compared, in a line.
    pub fn title(&self) -> String {
        format!("{}, {}", self.link, self.workload)
    }

    /// The figures, as Markdown that can be read as it is.
    pub fn table(&self) -> String {
        table::comparison(self)
    }

    /// All that another needs to judge the figures or to measure again.
    pub fn section(&self, command: &str) -> String {
        format!("{}\n\n{}\n\nCommand: `{command}`\n\n{}", self.machine, table::METHOD, self.table())
    }
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
    use crate::peer::Mode;
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
