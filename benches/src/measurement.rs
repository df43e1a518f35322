//! The figures of one migration, and the medians of several.

use novacron_protocol::migration::DowntimeParts;
use serde::Serialize;

use crate::network::WireBytes;
use crate::watch::{Seen, Spent};

/// What one migration cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measurement {
    /// Milliseconds from the order to the end. A peer's: QEMU's `total-time`, whose target waits already; ours: the
    /// record's, from the source agent's first step on, the target's start included.
    pub total_ms: f64,
    /// Milliseconds from the order until whoever gave it knew that it was carried out, by a clock outside.
    pub order_ms: f64,
    /// Milliseconds of `total_ms` in which memory moved. A peer's is all but its setup.
    pub memory_ms: f64,
    /// Milliseconds for which the guest stood still, by the mover's own account.
    pub downtime_ms: f64,
    /// Milliseconds from the source's stop to the target's first step, by both QEMUs' own clocks.
    pub pause_ms: Option<f64>,
    /// Milliseconds for which the guest stood still, by its heartbeats and a clock outside: the same for everybody.
    pub seen_pause_ms: Option<f64>,
    /// Seconds of processors from the order on: a peer's both QEMUs without the guest's own work, or our agents.
    pub processor_s: f64,
    /// The most private memory of one of our agents.
    pub memory_bytes_max: u64,
    /// What the downtime was made of, if the mover says so.
    pub downtime_parts: Option<DowntimeParts>,
    /// Rounds over the memory.
    pub rounds: u64,
    /// Bytes by the mover's own account.
    pub own_bytes: u64,
    /// Bytes on the links.
    pub wire: WireBytes,
    /// Which share of the machine was idle just before.
    pub idle_before: f64,
}

impl Measurement {
    /// What as many migrations cost, one after the other, each as this one. A guest stands still in its own only.
    pub fn times(self, count: u32) -> Self {
        let (times, whole) = (f64::from(count), u64::from(count));
        Self {
            total_ms: self.total_ms * times,
            order_ms: self.order_ms * times,
            memory_ms: self.memory_ms * times,
            processor_s: self.processor_s * times,
            own_bytes: self.own_bytes * whole,
            wire: self.wire.times(whole),
            ..self
        }
    }

    /// The same with what was seen from outside.
    pub fn with_seen(self, seen: Seen, spent: Spent) -> Self {
        Self {
            seen_pause_ms: Some(seen.pause.as_secs_f64() * 1000.0),
            memory_bytes_max: seen.memory_bytes_max,
            processor_s: spent.0,
            ..self
        }
    }
}

/// Medians, each for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// See [`Measurement::total_ms`].
    pub total_ms: f64,
    /// See [`Measurement::order_ms`].
    pub order_ms: f64,
    /// See [`Measurement::memory_ms`].
    pub memory_ms: f64,
    /// See [`Measurement::downtime_ms`].
    pub downtime_ms: f64,
    /// See [`Measurement::pause_ms`].
    pub pause_ms: Option<f64>,
    /// See [`Measurement::seen_pause_ms`].
    pub seen_pause_ms: Option<f64>,
    /// The median of how far the pause that was seen is from the mover's own downtime, in milliseconds.
    pub seen_apart_ms: Option<f64>,
    /// See [`Measurement::processor_s`].
    pub processor_s: f64,
    /// The most of all runs: see [`Measurement::memory_bytes_max`].
    pub memory_bytes_max: f64,
    /// See [`Measurement::rounds`].
    pub rounds: f64,
    /// See [`Measurement::own_bytes`].
    pub own_bytes: f64,
    /// See [`WireBytes::shaped`].
    pub wire_shaped_bytes: f64,
    /// See [`WireBytes::interfaces`].
    pub wire_interface_bytes: f64,
}

/// The medians of several measurements, or of none.
pub fn medians(runs: &[Measurement]) -> Option<Figures> {
    let of = |figure: fn(&Measurement) -> f64| median(runs.iter().map(figure).collect());
    let pauses: Vec<f64> = runs.iter().filter_map(|run| run.pause_ms).collect();
    let seen = || runs.iter().filter_map(|run| Some((run.seen_pause_ms?, run.downtime_ms)));
    Some(Figures {
        total_ms: of(|run| run.total_ms)?,
        order_ms: of(|run| run.order_ms)?,
        memory_ms: of(|run| run.memory_ms)?,
        downtime_ms: of(|run| run.downtime_ms)?,
        pause_ms: median(pauses),
        seen_pause_ms: median(seen().map(|(pause, _)| pause).collect()),
        seen_apart_ms: median(seen().map(|(pause, downtime)| (pause - downtime).abs()).collect()),
        processor_s: of(|run| run.processor_s)?,
        memory_bytes_max: runs.iter().map(|run| run.memory_bytes_max as f64).fold(0.0, f64::max),
        rounds: of(|run| run.rounds as f64)?,
        own_bytes: of(|run| run.own_bytes as f64)?,
        wire_shaped_bytes: of(|run| run.wire.shaped as f64)?,
        wire_interface_bytes: of(|run| run.wire.interfaces as f64)?,
    })
}

/// The parts of a downtime by name, in milliseconds and in the order in which they happen.
pub fn parts_ms(parts: &DowntimeParts) -> [(&'static str, f64); 6] {
    let ms = |us: u64| us as f64 / 1000.0;
    [
        ("disks drained", ms(parts.disk_drain_us)),
        ("memory drained", ms(parts.memory_drain_us)),
        ("target loaded", ms(parts.target_load_us)),
        ("digests compared", ms(parts.verify_us)),
        ("released", ms(parts.release_us)),
        ("resumed", ms(parts.resume_us)),
    ]
}

/// The medians of the parts of several downtimes, each for itself.
pub fn median_parts(runs: &[Measurement]) -> Vec<(&'static str, f64)> {
    let all: Vec<_> =
        runs.iter().filter_map(|run| run.downtime_parts.as_ref()).map(parts_ms).collect();
    let part = |at: usize| {
        let name = all.first()?[at].0;
        Some((name, median(all.iter().map(|parts| parts[at].1).collect())?))
    };
    (0..6).filter_map(part).collect()
}

/// The value in the middle, or between the two there; nothing of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let high = *values.get(upper)?;
    if values.len().is_multiple_of(2) { Some(high.midpoint(values[upper - 1])) } else { Some(high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn several_moves_add_up_and_their_pauses_do_not() {
        let wire = WireBytes { shaped: 100, interfaces: 90 };
        let one = Measurement { total_ms: 500.0, downtime_ms: 30.0, wire, ..Default::default() };
        let four = one.times(4);
        assert_eq!((four.total_ms, four.downtime_ms), (2000.0, 30.0));
        assert_eq!((four.wire.shaped, four.wire.interfaces), (400, 360));
    }

    #[test]
    fn each_figure_has_its_own_median() {
        let run =
            |total_ms, downtime_ms| Measurement { total_ms, downtime_ms, ..Default::default() };
        let figures = medians(&[run(1.0, 30.0), run(2.0, 10.0), run(3.0, 20.0)]).unwrap();
        assert_eq!((figures.total_ms, figures.downtime_ms, figures.pause_ms), (2.0, 20.0, None));
        assert_eq!(medians(&[]), None);
    }

    #[test]
    fn the_parts_of_a_downtime_have_medians_too() {
        let run = |release_us| {
            let parts = DowntimeParts { release_us, ..Default::default() };
            Measurement { downtime_parts: Some(parts), ..Default::default() }
        };
        let parts = median_parts(&[run(1000), run(9000), run(3000), Measurement::default()]);
        assert_eq!(parts.len(), 6);
        assert_eq!(parts[4], ("released", 3.0));
        assert!(median_parts(&[Measurement::default()]).is_empty());
    }
}
