//! What must not be missed: our medians as multiples of a peer's.

use clap::Args;
use serde::Serialize;

use crate::measurement::Figures;

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
}

/// One figure beside its bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judged {
    /// Ours divided by the peer's.
    pub ratio: f64,
    /// The most that it may be.
    pub max: f64,
}

impl Judged {
    /// Whether the bar is met.
    pub fn is_met(&self) -> bool {
        self.ratio <= self.max
    }
}

/// All figures beside their bars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// Total time.
    pub total: Judged,
    /// Downtime.
    pub downtime: Judged,
    /// Bytes on the wire.
    pub wire: Judged,
}

impl Verdict {
    /// Whether all bars are met.
    pub fn is_met(&self) -> bool {
        [self.total, self.downtime, self.wire].iter().all(Judged::is_met)
    }
}

impl Bar {
    /// Judges ours against the best of the peers; `None` if there is none.
    pub fn judge(&self, ours: &Figures, peers: &[Figures]) -> Option<Verdict> {
        let judged = |ours: f64, peer: f64, max| Judged { ratio: ours / peer, max };
        let fastest = peers.iter().min_by(|a, b| a.total_ms.total_cmp(&b.total_ms))?;
        let fewest = peers.iter().map(|peer| peer.wire_shaped_bytes).min_by(f64::total_cmp)?;
        // QEMU's own downtime ends when its last bytes are in the socket; the guest stands still for longer.
        let pause = |figures: &Figures| figures.pause_ms.unwrap_or(figures.downtime_ms);
        Some(Verdict {
            total: judged(ours.total_ms, fastest.total_ms, self.total_max),
            downtime: judged(pause(ours), pause(fastest), self.downtime_max),
            wire: judged(ours.wire_shaped_bytes, fewest, self.wire_max),
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The bar of issue 2.
    pub const BAR: Bar = Bar { total_max: 1.2, downtime_max: 1.5, wire_max: 1.05 };

    fn figures(total_ms: f64, downtime_ms: f64, wire_shaped_bytes: f64) -> Figures {
        Figures { total_ms, downtime_ms, wire_shaped_bytes, ..Figures::default() }
    }

    #[test]
    fn at_the_bar_is_met_and_past_it_is_not() {
        let peer = figures(1000.0, 100.0, 1000.0);
        assert!(BAR.judge(&figures(1200.0, 150.0, 1050.0), &[peer]).unwrap().is_met());
        for missed in [(1201.0, 1.0, 1.0), (1.0, 151.0, 1.0), (1.0, 1.0, 1051.0)] {
            assert!(!BAR.judge(&figures(missed.0, missed.1, missed.2), &[peer]).unwrap().is_met());
        }
    }

    #[test]
    fn the_best_of_each_column_is_to_be_beaten() {
        let peers = [figures(1000.0, 100.0, 3000.0), figures(2000.0, 1.0, 1000.0)];
        assert!(BAR.judge(&figures(1200.0, 150.0, 1050.0), &peers).unwrap().is_met());
        assert!(!BAR.judge(&figures(1200.0, 150.0, 1051.0), &peers).unwrap().is_met());
        assert_eq!(BAR.judge(&peers[0], &[]), None);
    }

    #[test]
    fn a_peer_without_figures_proves_nothing() {
        let nothing = Figures::default();
        assert!(!BAR.judge(&figures(1.0, 1.0, 1.0), &[nothing]).unwrap().is_met());
        assert!(!BAR.judge(&nothing, &[nothing]).unwrap().is_met());
    }
}
