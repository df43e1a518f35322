//! The counter that the guest prints on its console, and what it proves.

use anyhow::{Result, bail};

/// What every line of the guest's program starts with.
const MARK: &str = "NOVACRON-GUEST ";
const TICK: &str = "tick=";
const FAULT: &str = "FAULT";

/// The guest's lines in a console log. What the firmware and the kernel print is left out.
#[derive(Debug)]
pub struct Log {
    ticks: Vec<Tick>,
    faults: Vec<String>,
}

#[derive(Debug)]
struct Tick {
    number: u64,
    line: String,
}

impl Log {
    /// Reads a console log; its last line may still be growing and is left out until it ends.
    pub fn parse(text: &str) -> Self {
        let mut log = Self { ticks: Vec::new(), faults: Vec::new() };
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let Some(at) = line.find(MARK) else { continue };
            let line = line[at..].trim_end();
            let said = &line[MARK.len()..];
            if said.starts_with(FAULT) {
                log.faults.push(line.to_owned());
            } else if let Some(number) = tick_number(said) {
                log.ticks.push(Tick { number, line: line.to_owned() });
            }
        }
        log
    }

    /// The newest number.
    pub fn last_tick(&self) -> Option<u64> {
        self.ticks.last().map(|tick| tick.number)
    }

    /// The lines with numbers from `first` to `last`.
    pub fn between(&self, first: u64, last: u64) -> impl Iterator<Item = &str> {
        let shown = move |tick: &&Tick| (first..=last).contains(&tick.number);
        self.ticks.iter().filter(shown).map(|tick| tick.line.as_str())
    }

    /// Checks that the counter runs from 1 on, each number once, and that the guest found no fault
    /// in its memory or on its disk. Returns how far it is.
    pub fn check(&self) -> Result<u64> {
        if let Some(fault) = self.faults.first() {
            bail!("the guest found {} faults, the first is: {fault}", self.faults.len());
        }
        for (expected, tick) in (1..).zip(&self.ticks) {
            if tick.number != expected {
                bail!("the counter should say {expected} but says: {}", tick.line);
            }
        }
        Ok(self.ticks.len() as u64)
    }
}

fn tick_number(said: &str) -> Option<u64> {
    said.strip_prefix(TICK)?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(numbers: impl IntoIterator<Item = u64>) -> String {
        let line = |number| format!("NOVACRON-GUEST tick={number} uptime_ms=5 faults=0\r\n");
        std::iter::once("[    0.1] kernel\r\nNOVACRON-GUEST ready x=1\r\n".to_owned())
            .chain(numbers.into_iter().map(line))
            .collect()
    }

    #[test]
    fn a_whole_counter_passes() {
        let log = Log::parse(&log(1..=40));
        assert_eq!(log.check().unwrap(), 40);
        assert_eq!(log.last_tick(), Some(40));
        let shown: Vec<&str> = log.between(18, 21).collect();
        assert_eq!(shown.len(), 4);
        assert!(shown[0].contains("tick=18 ") && shown[3].contains("tick=21 "));
    }

    #[test]
    fn gaps_and_repeats_are_found() {
        assert!(Log::parse(&log([1, 2, 4])).check().is_err());
        assert!(Log::parse(&log([1, 2, 2, 3])).check().is_err());
        assert!(Log::parse(&log([5, 6])).check().is_err());
    }

    #[test]
    fn faults_are_found() {
        let text = log([1]) + "NOVACRON-GUEST FAULT memory page=3 expected=a found=b\n";
        let error = Log::parse(&text).check().unwrap_err().to_string();
        assert!(error.contains("page=3"), "{error}");
    }

    #[test]
    fn a_line_that_still_grows_is_not_read() {
        let text = log(1..=3) + "NOVACRON-GUEST tick=4";
        assert_eq!(Log::parse(&text).last_tick(), Some(3));
        assert_eq!(Log::parse("").last_tick(), None);
    }
}
