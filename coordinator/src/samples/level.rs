//! How finely things are remembered, and for how long. Pure.
//!
//! | level | a point | remembered for | where |
//! |---|---|---|---|
//! | ticks | 10 s | 1 h | memory; files of a minute, to begin with after a restart |
//! | minutes | 1 min | 24 h | files of a quarter of an hour |
//! | quarters | 15 min | 30 days | files of a quarter of an hour |
//!
//! **Room** for 2,000 hosts of 11 metrics and 20,000 machines of 9 (one disk, a card in a bridge), 202,000 series. Memory:
//! 780 bytes each, 150 MiB; at most [`SERIES_MAX`](super::table::SERIES_MAX) series, 255 MiB. Disk: ticks 2 bytes, 61
//! minutes of them 145 MiB; minutes 6 bytes, 24 hours 1.6 GiB; quarters 6 bytes, 30 days 3.3 GiB. A series that does not
//! change within a file takes one point of it, as most of idle machines do.

use novacron_protocol::sample::TICK_S;

/// Seconds of one file of minutes and of quarters.
pub const WINDOW_S: u64 = 900;

/// How finely things are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every ten seconds.
    Ticks,
    /// Every minute.
    Minutes,
    /// Every quarter of an hour.
    Quarters,
}

impl Level {
    /// All of them, from fine to coarse.
    pub const ALL: [Self; 3] = [Self::Ticks, Self::Minutes, Self::Quarters];

    /// Seconds of a point.
    pub fn step_s(self) -> u64 {
        match self {
            Self::Ticks => TICK_S,
            Self::Minutes => 60,
            Self::Quarters => 900,
        }
    }

    /// Seconds for which points are remembered.
    pub fn remembered_s(self) -> u64 {
        match self {
            Self::Ticks => 3_600,
            Self::Minutes => 24 * 3_600,
            Self::Quarters => 30 * 24 * 3_600,
        }
    }

    /// Seconds of one file.
    pub fn file_s(self) -> u64 {
        match self {
            Self::Ticks => 60,
            Self::Minutes | Self::Quarters => WINDOW_S,
        }
    }

    /// Points of a series in one file.
    pub fn points_per_file(self) -> usize {
        (self.file_s() / self.step_s()) as usize
    }

    /// Ticks of one point.
    pub fn ticks_per_point(self) -> usize {
        (self.step_s() / TICK_S) as usize
    }

    /// Numbers that are kept of a point: of a tick its value, else mean, least and most.
    pub fn numbers_per_point(self) -> usize {
        if self == Self::Ticks { 1 } else { 3 }
    }

    /// Its word: the directory of its files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ticks => "ticks",
            Self::Minutes => "minutes",
            Self::Quarters => "quarters",
        }
    }
}
