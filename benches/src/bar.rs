//! What must not be missed: our medians as multiples of a peer's, and a few limits of their own.

use clap::Args;
use serde::Serialize;

use crate::measurement::Figures;

/// How far the pause that a watcher sees may be from the downtime that the record says.
const SEEN_APART_MS_MAX: f64 = 20.0;
/// Private memory of an agent: 256 MiB and the cache of 1 GiB that an agent has unless its configuration says otherwise.
const MEMORY_BYTES_MAX: f64 = (1_u64 << 30 | 256 << 20) as f64;
/// Seconds of processors of both agents, as a multiple of what zstd adds to QEMU's multifd.
const PROCESSOR_MAX: f64 = 1.5;

/// The most that ours may be, as a multiple of the best peer's: the smallest total time and the fewest bytes of any,
/// and the pause of the one with the smallest total time. The defaults are those for the default workload.
#[derive(Debug, Clone, Copy, Args, Serialize)]
pub struct Bar {
    /// Most total time, as a multiple of the peer's.
    #[arg(long, value_name = "RATIO", default_value_t = 0.7)]
    pub total_max: f64,
    /// Most time for which the guest stands still, as a multiple of the peer's.
    #[arg(long, value_name = "RATIO", default_value_t = 0.7)]
    pub downtime_max: f64,
    /// Most bytes on the wire, as a multiple of the peer's.
    #[arg(long, value_name = "RATIO", default_value_t = 0.8)]
    pub wire_max: f64,
    /// Judge nothing but total time and bytes: pauses of several guests are no pause, nor limits of one migration those
    /// of several.
    #[arg(long)]
    pub total_and_wire_only: bool,
}

/// All contenders that take part.
#[derive(Debug)]
pub struct Field<'a> {
    /// NovaCron.
    pub ours: &'a Figures,
    /// QEMU's own.
    pub peers: &'a [Figures],
    /// Of these: parallel channels without and with zstd, encrypted alike.
    pub multifd: Option<(&'a Figures, &'a Figures)>,
}

/// One figure beside its bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judged {
    /// Of what.
    pub what: &'static str,
    /// The figure.
    pub value: f64,
    /// The most that it may be.
    pub max: f64,
}

impl Judged {
    /// Whether the bar is met. What is no number is not.
    pub fn is_met(&self) -> bool {
        self.value <= self.max
    }
}

impl Bar {
    /// Judges ours against the best of the peers; nothing if there is none.
    pub fn judge(&self, field: &Field<'_>) -> Vec<Judged> {
        let Field { ours, peers, .. } = *field;
        let fastest = peers.iter().min_by(|a, b| a.total_ms.total_cmp(&b.total_ms));
        let fewest = peers.iter().map(|peer| peer.wire_shaped_bytes).min_by(f64::total_cmp);
        let (Some(fastest), Some(fewest)) = (fastest, fewest) else { return Vec::new() };
        let judged = |what, value, max| Judged { what, value, max };
        let total = judged("total time", ours.total_ms / fastest.total_ms, self.total_max);
        let wire = judged("bytes on the wire", ours.wire_shaped_bytes / fewest, self.wire_max);
        if self.total_and_wire_only {
            return vec![total, wire];
        }
        let pause = judged("pause", ours.pause() / fastest.pause(), self.downtime_max);
        let mut all = vec![total, pause, wire];
        if let Some((without, with)) = field.multifd {
            let added = (with.processor_s - without.processor_s).max(0.0);
            all.push(judged(
                "processors, to what zstd adds",
                ours.processor_s / added,
                PROCESSOR_MAX,
            ));
        }
        all.extend(own_limits(ours));
        all
    }
}

/// What ours must keep to whatever others do.
fn own_limits(ours: &Figures) -> Vec<Judged> {
    let memory = (ours.memory_bytes_max > 0.0).then_some((
        "memory of an agent, to its limit",
        ours.memory_bytes_max / MEMORY_BYTES_MAX,
        1.0,
    ));
    let apart =
        ours.seen_apart_ms.map(|ms| ("downtime, ms from the pause seen", ms, SEEN_APART_MS_MAX));
    let limits = [apart, memory].into_iter().flatten();
    limits.map(|(what, value, max)| Judged { what, value, max }).collect()
}

impl Figures {
    /// For how long the guest stood still: as somebody outside saw it, or else as the mover says. QEMU's own downtime
    /// ends when its last bytes are in the socket, which is earlier.
    pub fn pause(&self) -> f64 {
        self.seen_pause_ms.or(self.pause_ms).unwrap_or(self.downtime_ms)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The bar of issue 2.
    pub const BAR: Bar =
        Bar { total_max: 1.2, downtime_max: 1.5, wire_max: 1.05, total_and_wire_only: false };

    fn figures(total_ms: f64, downtime_ms: f64, wire_shaped_bytes: f64) -> Figures {
        Figures { total_ms, downtime_ms, wire_shaped_bytes, ..Figures::default() }
    }

    fn is_met(ours: &Figures, peers: &[Figures]) -> Option<bool> {
        let judged = BAR.judge(&Field { ours, peers, multifd: None });
        (!judged.is_empty()).then(|| judged.iter().all(Judged::is_met))
    }

    #[test]
    fn at_the_bar_is_met_and_past_it_is_not() {
        let peer = figures(1000.0, 100.0, 1000.0);
        assert_eq!(is_met(&figures(1200.0, 150.0, 1050.0), &[peer]), Some(true));
        for missed in [(1201.0, 1.0, 1.0), (1.0, 151.0, 1.0), (1.0, 1.0, 1051.0)] {
            assert_eq!(is_met(&figures(missed.0, missed.1, missed.2), &[peer]), Some(false));
        }
    }

    #[test]
    fn the_best_of_each_column_is_to_be_beaten() {
        let peers = [figures(1000.0, 100.0, 3000.0), figures(2000.0, 1.0, 1000.0)];
        assert_eq!(is_met(&figures(1200.0, 150.0, 1050.0), &peers), Some(true));
        assert_eq!(is_met(&figures(1200.0, 150.0, 1051.0), &peers), Some(false));
        assert_eq!(is_met(&peers[0], &[]), None);
    }

    #[test]
    fn a_peer_without_figures_proves_nothing() {
        let nothing = Figures::default();
        assert_eq!(is_met(&figures(1.0, 1.0, 1.0), &[nothing]), Some(false));
        assert_eq!(is_met(&nothing, &[nothing]), Some(false));
    }

    #[test]
    fn the_pause_is_the_one_that_was_seen() {
        let seen = |total, seen_pause_ms| Figures {
            seen_pause_ms: Some(seen_pause_ms),
            ..figures(total, 100.0, 1.0)
        };
        assert_eq!(is_met(&seen(1.0, 150.0), &[seen(1.0, 100.0)]), Some(true));
        assert_eq!(is_met(&seen(1.0, 151.0), &[seen(1.0, 100.0)]), Some(false));
    }

    #[test]
    fn of_several_guests_only_total_and_wire_are_judged() {
        let bar = Bar { total_and_wire_only: true, ..BAR };
        let ours = Figures { seen_apart_ms: Some(500.0), ..figures(1200.0, 900.0, 1051.0) };
        let judged = bar.judge(&Field {
            ours: &ours,
            peers: &[figures(1000.0, 1.0, 1000.0)],
            multifd: None,
        });
        assert_eq!(judged.iter().map(Judged::is_met).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn ours_has_limits_of_its_own() {
        let peer = figures(1.0, 1.0, 1.0);
        let met = |ours: Figures| is_met(&ours, &[peer]);
        assert_eq!(met(Figures { seen_apart_ms: Some(20.0), ..peer }), Some(true));
        assert_eq!(met(Figures { seen_apart_ms: Some(20.5), ..peer }), Some(false));
        assert_eq!(met(Figures { memory_bytes_max: MEMORY_BYTES_MAX, ..peer }), Some(true));
        assert_eq!(met(Figures { memory_bytes_max: MEMORY_BYTES_MAX + 1.0, ..peer }), Some(false));
    }

    #[test]
    fn processors_are_judged_by_what_zstd_adds() {
        let peer = |processor_s| Figures { processor_s, ..figures(1.0, 1.0, 1.0) };
        let (without, with, peers) = (peer(2.0), peer(4.0), [peer(2.0), peer(4.0)]);
        let met = |ours: &Figures| {
            let field = Field { ours, peers: &peers, multifd: Some((&without, &with)) };
            BAR.judge(&field).iter().all(Judged::is_met)
        };
        assert!(met(&peer(3.0)));
        assert!(!met(&peer(3.1)));
    }
}
