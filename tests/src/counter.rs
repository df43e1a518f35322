//! The counter that the demo guest prints, and what it proves: the guest missed nothing and did nothing twice.

use anyhow::{Result, bail};

const MARK: &str = "NOVACRON-GUEST ";

/// The guest's lines in a console log.
#[derive(Debug, PartialEq, Eq)]
pub struct Counter {
    ticks: Vec<u64>,
    faults: Vec<String>,
}

impl Counter {
    /// Reads a log. Its last line may still be growing and is left out until it ends.
    pub fn parse(log: &str) -> Self {
        let mut counter = Self { ticks: Vec::new(), faults: Vec::new() };
        for line in log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let Some((_, said)) = line.split_once(MARK) else { continue };
            if said.starts_with("FAULT") {
                counter.faults.push(said.trim_end().to_owned());
            }
            counter.ticks.extend(tick(said));
        }
        counter
    }

    /// The newest number, 0 before the first.
    pub fn last(&self) -> u64 {
        self.ticks.last().copied().unwrap_or(0)
    }

    /// Checks that it runs from 1 on, each number once, and that the guest found its memory and disk whole.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<()> {
        if let Some(fault) = self.faults.first() {
            bail!("the guest says: {fault} ({} faults)", self.faults.len());
        }
        match (1..).zip(&self.ticks).find(|(expected, tick)| expected != *tick) {
            Some((expected, tick)) => {
                bail!("the guest's counter says {tick} where {expected} should be")
            }
            None => Ok(()),
        }
    }
}

fn tick(said: &str) -> Option<u64> {
    said.strip_prefix("tick=")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(ticks: &[u64]) -> String {
        let line = |tick| format!("NOVACRON-GUEST tick={tick} uptime_ms=1 faults=0\r\n");
        ticks.iter().map(line).collect()
    }

    #[test]
    fn gaps_repeats_and_faults_are_found() {
        assert!(Counter::parse(&log(&[1, 2, 3])).check().is_ok());
        for wrong in [&[1, 3][..], &[1, 2, 2], &[2, 3]] {
            assert!(Counter::parse(&log(wrong)).check().is_err());
        }
        let faulty = log(&[1]) + "NOVACRON-GUEST FAULT disk block=3\n";
        assert!(Counter::parse(&faulty).check().unwrap_err().to_string().contains("block=3"));
    }

    #[test]
    fn what_still_grows_is_not_read() {
        let growing = "[ 0.1] kernel\n".to_owned() + &log(&[1, 2]) + "NOVACRON-GUEST tick=3";
        assert_eq!(Counter::parse(&growing).last(), 2);
        assert_eq!(Counter::parse("").last(), 0);
    }
}
