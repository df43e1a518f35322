//! Guests of growing size: what a migration costs has to grow with them, and not faster.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::measurement::Figures;
use crate::migrate;

/// MiB of memory of the guests. They write half of it all the time.
const SIZES_MIB: [u64; 4] = [256, 512, 1024, 2048];
/// What a MiB of the largest guest may cost at most, as a multiple of what one of the smallest does: runs differ by as
/// much from each other.
const PER_MIB_MAX: f64 = 1.25;
const TITLE: &str =
    "Growth: 1gbit, guests that write half of their memory, 50 MB/s of small updates";

/// One size and what its migration cost.
#[derive(Debug, Clone, Copy)]
struct Size {
    mib: u64,
    total_ms: f64,
    processor_s: f64,
}

impl Size {
    fn of(mib: u64, figures: &Figures) -> Self {
        Self { mib, total_ms: figures.total_ms, processor_s: figures.processor_s }
    }
}

/// Moves a guest of each size, prints and judges. The exit code says whether it grows faster than the guests do.
pub fn run(runs: u32, is_recorded: bool) -> Result<ExitCode> {
    let mut sizes = Vec::new();
    let mut last = None;
    for mib in SIZES_MIB {
        let comparison = migrate::compare(&migrate::typed(&words(mib), runs, false)?)?;
        let figures = comparison.ours().context("there was no run")?;
        sizes.push(Size::of(mib, &figures));
        last = Some(comparison);
    }
    let table = table(&sizes);
    println!("\n{TITLE}\n\n{table}");
    if let Some(comparison) = last.filter(|_| is_recorded) {
        comparison.record_scenario("growth", TITLE, runs, &table)?;
    }
    Ok(if is_linear(&sizes) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(mib: u64) -> String {
    format!("--memory {mib} --working-set {} --rate 50 --no-peers", mib / 2)
}

fn table(sizes: &[Size]) -> String {
    let mut text = String::from(
        "| guest MiB | total ms | CPU s of both agents | ms per 100 MiB | CPU ms per 100 MiB |\n|---|---|---|---|---|\n",
    );
    for size in sizes {
        let (time, processor) = per_mib(size);
        text.push_str(&format!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.0} |\n",
            size.mib,
            size.total_ms,
            size.processor_s,
            time * 100.0,
            processor * 100_000.0
        ));
    }
    let judged = if is_linear(sizes) { "met" } else { "MISSED" };
    text + &format!(
        "\nA MiB of the largest costs at most {PER_MIB_MAX} times one of the smallest: {judged}.\n"
    )
}

/// Milliseconds, and seconds of processors.
fn per_mib(size: &Size) -> (f64, f64) {
    let mib = size.mib as f64;
    (size.total_ms / mib, size.processor_s / mib)
}

/// What is the same for every guest makes a MiB of the small ones dearer; so only what grows too fast is found.
fn is_linear(sizes: &[Size]) -> bool {
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return true };
    let (small, large) = (per_mib(first), per_mib(last));
    large.0 <= small.0 * PER_MIB_MAX && large.1 <= small.1 * PER_MIB_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(mib: u64, total_ms: f64, processor_s: f64) -> Size {
        Size { mib, total_ms, processor_s }
    }

    #[test]
    fn growing_with_the_guest_is_linear_and_faster_is_not() {
        let small = size(256, 1000.0, 1.0);
        assert!(is_linear(&[small, size(2048, 8000.0, 8.0)]));
        assert!(is_linear(&[small, size(2048, 4000.0, 10.0)]));
        assert!(!is_linear(&[small, size(2048, 10_001.0, 8.0)]));
        assert!(!is_linear(&[small, size(2048, 8000.0, 10.1)]));
    }

    #[test]
    fn every_size_can_be_typed() {
        for mib in SIZES_MIB {
            let args = migrate::typed(&words(mib), 1, false).unwrap();
            assert_eq!(args.workload().memory_bytes(), mib << 20);
        }
    }
}
