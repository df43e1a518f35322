//! How busy this host's processors are.

use std::fs;

/// Numbers of the first line of `/proc/stat` that are time of their own, in ticks: user, nice, system, idle, waiting for
/// I/O, interrupts, soft interrupts, stolen. Those behind them are counted in the first two, too.
const TIMES: usize = 8;
/// Places of those in which nothing is done.
const IDLE: [usize; 2] = [3, 4];

/// The share of this host's processors that is in use, from one look to the next; nobody has looked yet.
#[derive(Debug, Default)]
pub struct ProcessorLoad {
    before: Option<Ticks>,
}

/// What all processors together have done since the host started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl ProcessorLoad {
    /// Thousandths of the processors' time that were used since the last look, by whomever; `None` at the first look, if
    /// the kernel does not say, or no time has passed.
    pub fn permille(&mut self) -> Option<u16> {
        let now = Ticks::now();
        let before = std::mem::replace(&mut self.before, now);
        now?.permille_since(before?)
    }
}

/// What this host's processors have done since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessorTimes {
    /// Ticks of 10 ms in which one of them did something.
    pub busy_ticks: u64,
    /// How many there are.
    pub processors: u64,
}

/// What the processors have done, if the kernel says.
pub fn processor_times() -> Option<ProcessorTimes> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let is_one = |line: &&str| {
        let number = line.strip_prefix("cpu").and_then(|rest| rest.bytes().next());
        number.is_some_and(|byte| byte.is_ascii_digit())
    };
    let processors = stat.lines().filter(is_one).count() as u64;
    Some(ProcessorTimes { busy_ticks: Ticks::of(&stat)?.busy, processors })
}

impl Ticks {
    /// One small file, which the kernel makes up: nothing waits for a disk.
    fn now() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn of(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
        let numbers = numbers.split_whitespace().take(TIMES).map(str::parse);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
        let idle = IDLE.iter().map(|place| numbers.get(*place)).sum::<Option<u64>>()?;
        let all = numbers.iter().sum();
        Some(Self { busy: all - idle, all })
    }

    /// Time that the kernel takes back, as it may of what waits for I/O, counts as none.
    fn permille_since(self, before: Self) -> Option<u16> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let busy = self.busy.saturating_sub(before.busy).min(all);
        u16::try_from(u128::from(busy) * 1000 / u128::from(all)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_all_processors_is_read() {
        let stat = "cpu  10 1 5 80 4 2 1 3 7 1\ncpu0 1 2 3 4 5 6 7 8 9 0\nbtime 1\n";
        assert_eq!(Ticks::of(stat), Some(Ticks { busy: 22, all: 106 }));
        for bad in ["", "cpu0 1 2 3 4 5", "cpu  1 2 3", "cpu  1 2 3 x 5"] {
            assert_eq!(Ticks::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_share_is_of_the_time_between_two_looks() {
        let before = Ticks { busy: 100, all: 1000 };
        let after = |busy, all| Ticks { busy, all }.permille_since(before);
        assert_eq!(after(150, 1200), Some(250));
        assert_eq!(after(300, 1200), Some(1000));
        assert_eq!(after(90, 1200), Some(0));
        assert_eq!(after(100, 1000), None);
        assert_eq!(after(100, 900), None);
    }

    #[test]
    fn this_host_says_how_busy_it_is() {
        let mut load = ProcessorLoad::default();
        assert_eq!(load.permille(), None);
        // Until the kernel's clock ticks.
        let share = std::iter::repeat_with(|| load.permille()).find_map(|share| share).unwrap();
        assert!(share <= 1000, "{share}");
    }
}
