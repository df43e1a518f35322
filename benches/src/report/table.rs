//! The tables.

use std::fmt::Write;

use novacron_protocol::migration::DowntimeParts;

use super::{Comparison, Contestant};
use crate::bar::Judged;
use crate::measurement::{Figures, Measurement, median_parts, parts_ms};

const MIB: f64 = 1_048_576.0;

/// How the figures come about.
pub const METHOD: &str = "\
Medians; the range of the runs in brackets. Contenders took turns. Total time and downtime are each mover's own:
QEMU's `total-time` and `downtime`, NovaCron's record, whose total contains the start of the target. *Order* is what
somebody with a watch sees: from the order until its end is known, the way through CLI and coordinator included; a
plain QEMU's target is started and set up before that. Every target holds kernel and initrd before. *Pause* is from
the source's stop to the target's first step, by the clocks of both QEMUs, and NovaCron's downtime. *Seen* is that pause
by a clock outside: what passes there between two heartbeats on the console more than by the guest's own clock; it is
the one that is judged, for all alike. *CPU* is that of both QEMUs without what runs the guest, or of both agents, from
the order to its end; *memory* is the most that one agent has for itself. Bytes are those
of both directions on the hosts' links, all headers included, as the shapers count them; *own count* is what the
mover says. From the order on the machine has free memory that its own host need not find first, for all alike
(`benches/src/reservoir.rs`). One coordinator. Every guest went on at its target and compared all of its pages.";

/// The figures of all contenders, and the verdict if there is one.
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = String::from(
        "| | total ms | of it memory ms | order ms | downtime ms | pause ms | seen ms | rounds | MiB on the wire | own count MiB | CPU s | memory MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
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
    text.push_str(&judged(&comparison.verdict));
    text
}

fn row(contestant: &Contestant, medians: &Figures) -> String {
    let runs = &contestant.runs;
    let memory = (medians.memory_bytes_max > 0.0).then_some(medians.memory_bytes_max / MIB);
    format!(
        "| {} | {:.0}{} | {:.0} | {:.0} | {:.0}{} | {} | {} | {:.0} | {:.1}{} | {:.1} | {:.2} | {} |\n",
        contestant.name,
        medians.total_ms,
        range(runs, |run| run.total_ms),
        medians.memory_ms,
        medians.order_ms,
        medians.downtime_ms,
        range(runs, |run| run.downtime_ms),
        or_dash(medians.pause_ms),
        or_dash(medians.seen_pause_ms),
        medians.rounds,
        medians.wire_shaped_bytes / MIB,
        range(runs, |run| run.wire.shaped as f64 / MIB),
        medians.own_bytes / MIB,
        medians.processor_s,
        or_dash(memory),
    )
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"))
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

fn judged(verdict: &[Judged]) -> String {
    if verdict.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("\n| NovaCron to the best peer | ratio | at most | |\n|---|---|---|---|\n");
    for judged in verdict {
        let Judged { what, value, max } = judged;
        let met = if judged.is_met() { "met" } else { "MISSED" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {what} | {value:.2} | {max:.2} | {met} |");
    }
    text
}

/// One run, as it ends.
pub fn line(measurement: &Measurement) -> String {
    format!(
        "total {:.0} ms, memory {:.0} ms, order {:.0} ms, downtime {:.0} ms{}, pause {}, seen {}, {} rounds, {:.1} MiB on the wire \
         ({:.1} by the interfaces, {:.1} own count), CPU {:.2} s, memory {:.0} MiB; machine {:.0} % idle before",
        measurement.total_ms,
        measurement.memory_ms,
        measurement.order_ms,
        measurement.downtime_ms,
        measurement.downtime_parts.as_ref().map_or_else(String::new, in_brackets),
        or_unknown(measurement.pause_ms),
        or_unknown(measurement.seen_pause_ms),
        measurement.rounds,
        measurement.wire.shaped as f64 / MIB,
        measurement.wire.interfaces as f64 / MIB,
        measurement.own_bytes as f64 / MIB,
        measurement.processor_s,
        measurement.memory_bytes_max as f64 / MIB,
        measurement.idle_before * 100.0,
    )
}

fn or_unknown(ms: Option<f64>) -> String {
    ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms:.0} ms"))
}

fn in_brackets(parts: &DowntimeParts) -> String {
    let list: Vec<_> = parts_ms(parts).iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
    format!(" ({})", list.join(", "))
}
