//! What the kernel says of a process: `proc(5)`, `/proc/PID/stat` and `/proc/PID/status`.

use std::fs;

/// What one process has used and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessReading {
    /// Milliseconds of processors, of all its threads, since it began.
    pub processor_ms: u64,
    /// When it began, in ticks since the host was started: tells two processes of one number apart.
    pub began: u64,
    /// Bytes of the host's memory that it occupies.
    pub resident_bytes: u64,
}

/// Milliseconds of one tick of `/proc`: Linux has 100 a second towards programs, whatever its own are.
pub(super) const TICK_MS: u64 = 10;

/// Reads a process, if it is there.
pub(super) fn read(pid: i32) -> Option<ProcessReading> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (processor_ms, began) = times(&stat)?;
    // A process that is ending has no memory any more.
    let resident_bytes = kibibytes(&status, "VmRSS:").unwrap_or(0) * 1024;
    Some(ProcessReading { processor_ms, began, resident_bytes })
}

/// Fields 14, 15 and 22. The second field is a name in brackets, in which anything can stand.
fn times(stat: &str) -> Option<(u64, u64)> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let began = fields.nth(6)?.parse().ok()?;
    Some(((user + system) * TICK_MS, began))
}

/// A line such as `VmRSS:  1024 kB`.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_that_may_be_anything() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194304 900 0 0 0 123 45 6 7 20 0 3 0 8888 1 2 3";
        assert_eq!(times(stat), Some((1_680, 8888)));
        for bad in ["", "77 (a", "77 (a) S 1 2 3", "77 (a) S 1 77 77 0 -1 4 9 0 0 0 x 45 6 7"] {
            assert_eq!(times(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_is_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let reading = read(pid).unwrap();
        assert!(reading.resident_bytes > 100_000, "{reading:?}");
        assert!(read(pid).unwrap().processor_ms >= reading.processor_ms);
        assert_eq!(read(i32::MAX), None);
    }
}
