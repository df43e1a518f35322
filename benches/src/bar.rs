//! What must not be missed: our medians as multiples of a peer's.

use clap::Args;
use serde::Serialize;

use crate::measurement::Figures;

/// The most that ours may be, as a multiple of the peer's. The defaults are those for the default workload.
#[derive(Debug, Clone, Copy, Args, Serialize)]
pub struct Bar {
    /// Most total time, as a multiple of the peer's.
    #[arg(long, value_name = "RATIO", default_value_t = 1.2)]
    pub total_max: f64,
    /// Most downtime, as a multiple of the peer's.
    #[arg(long, value_name = "RATIO", default_value_t = 1.5)]
    pub downtime_max: f64,
    /// Most bytes on the wire, as a multiple of the peer's.
    #[arg(long, value_name = "RATIO", default_value_t = 1.05)]
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
    /// Judges ours against a peer's.
    pub fn judge(&self, ours: &Figures, peer: &Figures) -> Verdict {
        let judged = |ours: f64, peer: f64, max| Judged { ratio: ours / peer, max };
        Verdict {
            total: judged(ours.total_ms, peer.total_ms, self.total_max),
            downtime: judged(ours.downtime_ms, peer.downtime_ms, self.downtime_max),
            wire: judged(ours.wire_shaped_bytes, peer.wire_shaped_bytes, self.wire_max),
        }
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
        assert!(BAR.judge(&figures(1200.0, 150.0, 1050.0), &peer).is_met());
        for missed in [(1201.0, 1.0, 1.0), (1.0, 151.0, 1.0), (1.0, 1.0, 1051.0)] {
            assert!(!BAR.judge(&figures(missed.0, missed.1, missed.2), &peer).is_met());
        }
    }

    #[test]
    fn a_peer_without_figures_proves_nothing() {
        let nothing = Figures::default();
        assert!(!BAR.judge(&figures(1.0, 1.0, 1.0), &nothing).is_met());
        assert!(!BAR.judge(&nothing, &nothing).is_met());
    }
}
