//! A link that is away for a minute while memory is being copied: the guest must not notice.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::measurement::Figures;
use crate::migrate;
use crate::report::Comparison;

const WORDS: &str = "--rate 50 --no-peers --deadline-s 300";
const CUT: &str = "--cut-s 60";
/// By how much longer the guest may stand still than without the cut, in milliseconds.
const LONGER_MS_MAX: f64 = 100.0;
const TITLE: &str =
    "Link cut for 60 s: 1gbit, 512 MiB guest, 256 MiB working set, 50 MB/s of small updates";

/// Moves the guest without a cut and with one, prints and judges. The exit code says whether the bar was missed.
pub fn run(runs: u32, is_recorded: bool) -> Result<ExitCode> {
    let whole = migrate::compare(&migrate::typed(WORDS, runs, false)?)?;
    let cut = migrate::compare(&migrate::typed(&format!("{WORDS} {CUT}"), runs, false)?)?;
    let pair = Pair { whole: figures(&whole)?, cut: figures(&cut)? };
    let table = pair.table()?;
    println!("\n{TITLE}\n\n{table}");
    if is_recorded {
        cut.record_scenario("link-cut", TITLE, runs, &table)?;
    }
    Ok(if pair.is_met()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn figures(comparison: &Comparison) -> Result<Figures> {
    comparison.ours().context("there was no run")
}

/// Without and with the cut.
struct Pair {
    whole: Figures,
    cut: Figures,
}

impl Pair {
    fn longer_ms(&self) -> Result<f64> {
        Ok(pause_ms(&self.cut)? - pause_ms(&self.whole)?)
    }

    fn is_met(&self) -> Result<bool> {
        Ok(self.longer_ms()? <= LONGER_MS_MAX)
    }

    fn table(&self) -> Result<String> {
        let mut text = String::from(
            "| link | total ms | pause seen ms | MiB on the wire |\n|---|---|---|---|\n",
        );
        for (name, figures) in [("whole", &self.whole), ("cut", &self.cut)] {
            let pause_ms = pause_ms(figures)?;
            let wire_mib = figures.wire_shaped_bytes / f64::from(1 << 20);
            let total_ms = figures.total_ms;
            text += &format!("| {name} | {total_ms:.0} | {pause_ms:.0} | {wire_mib:.0} |\n");
        }
        let judged = if self.is_met()? { "met" } else { "MISSED" };
        let longer_ms = self.longer_ms()?;
        Ok(text
            + &format!(
                "\nThe guest stands still for at most {LONGER_MS_MAX} ms more: {longer_ms:.0} ms, {judged}.\n"
            ))
    }
}

fn pause_ms(figures: &Figures) -> Result<f64> {
    figures.seen_pause_ms.context("nobody saw the guest's pause")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(seen_pause_ms: f64) -> Figures {
        Figures { seen_pause_ms: Some(seen_pause_ms), ..Figures::default() }
    }

    #[test]
    fn a_guest_that_notices_the_cut_misses_the_bar() {
        let pair = |cut_ms| Pair { whole: figures(20.0), cut: figures(cut_ms) };
        assert!(pair(120.0).is_met().unwrap());
        assert!(!pair(121.0).is_met().unwrap());
        assert!(pair(121.0).table().unwrap().ends_with("101 ms, MISSED.\n"));
    }

    #[test]
    fn both_can_be_typed() {
        let cut_s = |words: &str| migrate::typed(words, 1, false).unwrap().cut_s;
        assert_eq!(cut_s(WORDS), None);
        assert_eq!(cut_s(&format!("{WORDS} {CUT}")), Some(60));
    }
}
