//! The tables.

use std::fmt::Write;

use novacron_protocol::migration::DowntimeParts;

use super::{Comparison, Contestant};
use crate::bar::{Judged, Verdict};
use crate::measurement::{Figures, Measurement, median_parts, parts_ms};

const MIB: f64 = 1_048_576.0;

/// How the figures come about.
pub const METHOD: &str = "\
Medians; the range of the runs in brackets. Contenders took turns. Total time and downtime are each mover's own:
QEMU's `total-time` and `downtime`, NovaCron's record, whose total contains the start of the target. *Order* is what
somebody with a watch sees: from the order until its end is known, the way through CLI and coordinator included; a
plain QEMU's target is started and set up before that. Every target holds kernel and initrd before. *Pause* is from
the source's stop to the target's first step, by the clocks of both QEMUs, and NovaCron's downtime. Bytes are those
of both directions on the hosts' links, all headers included, as the shapers count them; *own count* is what the
mover says. One coordinator. Every guest went on at its target and compared all of its pages.";

/// The figures of all contenders, and the verdict if there is one.
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = String::from(
        "| | total ms | of it memory ms | order ms | downtime ms | pause ms | rounds | MiB on the wire | own count MiB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for contestant in &comparison.contenders {
        if let Some(medians) = &contestant.medians {
            text.push_str(&row(contestant, medians));
        }
    }
    for contestant in &comparison.contenders {
        text.push_str(&parts(contestant));
    }
    text.push_str(&idle(&comparison.contenders));
    if let Some(verdict) = &comparison.verdict {
        text.push_str(&judged(verdict));
    }
    text
}

fn row(contestant: &Contestant, medians: &Figures) -> String {
    let runs = &contestant.runs;
    let pause = medians.pause_ms.map_or_else(|| "–".to_owned(), |pause| format!("{pause:.0}"));
    format!(
        "| {} | {:.0}{} | {:.0} | {:.0} | {:.0}{} | {pause} | {:.0} | {:.1}{} | {:.1} |\n",
        contestant.name,
        medians.total_ms,
        range(runs, |run| run.total_ms),
        medians.memory_ms,
        medians.order_ms,
        medians.downtime_ms,
        range(runs, |run| run.downtime_ms),
        medians.rounds,
        medians.wire_shaped_bytes / MIB,
        range(runs, |run| run.wire.shaped as f64 / MIB),
        medians.own_bytes / MIB,
    )
}

/// How much of the machine others left, at the worst.
fn idle(contestants: &[Contestant]) -> String {
    let runs = contestants.iter().flat_map(|contestant| &contestant.runs);
    let least = runs.map(|run| run.idle_before).fold(1.0, f64::min);
    format!("\nBefore each run at least {:.0} % of the machine was idle.\n", least * 100.0)
}

/// What a downtime was made of, if it is known.
fn parts(contestant: &Contestant) -> String {
    let parts = median_parts(&contestant.runs);
    if parts.is_empty() {
        return String::new();
    }
    let list: Vec<_> = parts.iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
    format!("\n{}'s downtime, ms: {}.\n", contestant.name, list.join(", "))
}

/// Least and most, if there is more than one.
fn range(runs: &[Measurement], figure: impl Fn(&Measurement) -> f64) -> String {
    let figures = || runs.iter().map(&figure);
    let (least, most) = (figures().fold(f64::INFINITY, f64::min), figures().fold(0.0, f64::max));
    if runs.len() < 2 || least == most {
        String::new()
    } else {
        format!(" ({least:.0}–{most:.0})")
    }
}

fn judged(verdict: &Verdict) -> String {
    let mut text =
        String::from("\n| NovaCron to the best peer | ratio | at most | |\n|---|---|---|---|\n");
    let rows = [
        ("total time", verdict.total),
        ("pause", verdict.downtime),
        ("bytes on the wire", verdict.wire),
    ];
    for (name, Judged { ratio, max }) in rows {
        let met = if (Judged { ratio, max }).is_met() { "met" } else { "MISSED" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {name} | {ratio:.2} | {max:.2} | {met} |");
    }
    text
}

/// One run, as it ends.
pub fn line(measurement: &Measurement) -> String {
    format!(
        "total {:.0} ms, memory {:.0} ms, order {:.0} ms, downtime {:.0} ms{}, pause {}, {} rounds, {:.1} MiB on the wire \
         ({:.1} by the interfaces, {:.1} own count); machine {:.0} % idle before",
        measurement.total_ms,
        measurement.memory_ms,
        measurement.order_ms,
        measurement.downtime_ms,
        measurement.downtime_parts.as_ref().map_or_else(String::new, in_brackets),
        measurement.pause_ms.map_or_else(|| "unknown".to_owned(), |pause| format!("{pause:.0} ms")),
        measurement.rounds,
        measurement.wire.shaped as f64 / MIB,
        measurement.wire.interfaces as f64 / MIB,
        measurement.own_bytes as f64 / MIB,
        measurement.idle_before * 100.0,
    )
}

fn in_brackets(parts: &DowntimeParts) -> String {
    let list: Vec<_> = parts_ms(parts).iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
    format!(" ({})", list.join(", "))
}
