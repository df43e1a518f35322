//! The pause that a guest's heartbeats tell. Pure.
//!
//! Each line of the guest's counter says when it was, by the guest's clock, which stands still while the guest does. So
//! between two lines that much more passes outside than inside as the guest stood still, however late it was with
//! either.

use std::time::Duration;

/// What every line of the counter has.
const MARK: &str = "NOVACRON-GUEST tick=";
/// A line of the guest is much shorter; what is longer is none of its lines.
const LINE_BYTES_MAX: usize = 4096;

/// Lines from one file, cut out of what comes of it.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The lines that these bytes end.
    pub fn cut(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.rest).into_owned());
            }
            if byte == b'\n' || self.rest.len() >= LINE_BYTES_MAX {
                self.rest.clear();
            } else {
                self.rest.push(byte);
            }
        }
        lines
    }
}

/// One line of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beat {
    number: u64,
    inside: Duration,
    outside: Duration,
}

/// The heartbeats so far. A log is copied to where its machine goes: what was seen once is not seen again.
#[derive(Debug, Default)]
pub struct Beats {
    last: Option<Beat>,
    pause_max: Option<Duration>,
}

impl Beats {
    /// A line was seen; `outside` is when, by the watcher's clock.
    pub fn see(&mut self, line: &str, outside: Duration) {
        let Some(beat) = parse(line, outside) else { return };
        if let Some(last) = self.last {
            if beat.number <= last.number {
                return;
            }
            let (out, inside) =
                (beat.outside - last.outside, beat.inside.saturating_sub(last.inside));
            self.pause_max = self.pause_max.max(Some(out.saturating_sub(inside)));
        }
        self.last = Some(beat);
    }

    /// For how long the guest stood still at most between two heartbeats; `None` if there were not two.
    pub fn pause_max(&self) -> Option<Duration> {
        self.pause_max
    }
}

fn parse(line: &str, outside: Duration) -> Option<Beat> {
    let (_, said) = line.split_once(MARK)?;
    let (number, rest) = said.split_once(' ')?;
    let uptime = rest.split(' ').find_map(|word| word.strip_prefix("uptime_ms="))?;
    let inside = Duration::from_millis(uptime.parse().ok()?);
    Some(Beat { number: number.parse().ok()?, inside, outside })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn beats(seen: &[(u64, u64, u64)]) -> Option<Duration> {
        let mut beats = Beats::default();
        for (number, inside, outside) in seen {
            beats.see(
                &format!("NOVACRON-GUEST tick={number} uptime_ms={inside} faults=0"),
                ms(*outside),
            );
        }
        beats.pause_max()
    }

    #[test]
    fn the_pause_is_what_passed_outside_only() {
        // The third was late by the guest's clock too; then the guest stood still for 150 ms.
        assert_eq!(
            beats(&[(1, 0, 1000), (2, 100, 1101), (3, 230, 1231), (4, 330, 1481)]),
            Some(ms(150))
        );
        assert_eq!(beats(&[(1, 0, 1000)]), None);
    }

    #[test]
    fn a_copy_of_the_log_is_not_seen_again() {
        let copied = [(1, 0, 1000), (2, 100, 1100), (1, 0, 5000), (2, 100, 5000), (3, 200, 1250)];
        assert_eq!(beats(&copied), Some(ms(50)));
    }

    #[test]
    fn lines_are_cut_wherever_they_come_apart() {
        let mut lines = Lines::default();
        assert!(lines.cut(b"[ 0.1] kernel").is_empty());
        assert_eq!(lines.cut(b"\r\nNOVACRON-GUEST ti"), ["[ 0.1] kernel\r"]);
        assert_eq!(lines.cut(b"ck=7 uptime_ms=5 \nx"), ["NOVACRON-GUEST tick=7 uptime_ms=5 "]);
        lines.cut(&[b'x'; 3 * LINE_BYTES_MAX]);
        assert!(lines.rest.len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn other_lines_are_no_heartbeats() {
        let mut beats = Beats::default();
        for line in
            ["", "NOVACRON-GUEST ready", "NOVACRON-GUEST tick=x uptime_ms=1", "tick=1 uptime_ms=1"]
        {
            beats.see(line, ms(1));
        }
        assert_eq!(beats.last, None);
    }
}
