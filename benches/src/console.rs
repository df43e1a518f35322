//! What the guest says on its console, and what that proves: it started, it went on, and nothing was lost.

use anyhow::{Result, bail};

/// What every line of the guest's program starts with.
const MARK: &str = "NOVACRON-GUEST ";

/// What is typed to have the guest compare every page, and every block of a disk that it writes, at once.
pub const SWEEP: &str = "sweep\n";

/// The guest's finished lines in a console log.
#[derive(Debug)]
pub struct Console {
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Ready,
    Tick(u64),
    Swept { faults: u64 },
    DiskSwept { faults: u64 },
    Fault(String),
    Other,
}

impl Console {
    /// Reads a console log; its last line may still be growing and is left out until it ends.
    pub fn parse(text: &str) -> Self {
        let finished = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let said =
            finished.filter_map(|line| line.split_once(MARK)).map(|(_, said)| said.trim_end());
        Self { lines: said.map(Line::parse).collect() }
    }

    /// Whether the guest has begun its work, or an error if it cannot.
    pub fn is_ready(&self) -> Result<bool> {
        if let Some(fault) = self.fault() {
            bail!("the guest: {fault}");
        }
        Ok(self.lines.contains(&Line::Ready))
    }

    /// The newest number of the counter.
    pub fn last_tick(&self) -> u64 {
        let newest = self.lines.iter().rev().find_map(|line| match line {
            Line::Tick(number) => Some(*number),
            _ => None,
        });
        newest.unwrap_or(0)
    }

    /// Whether the guest has compared every page, as it was told to, and every block if it has a disk.
    pub fn is_swept(&self, has_disk: bool) -> bool {
        let has = |is_it: fn(&Line) -> bool| self.lines.iter().any(is_it);
        let is_disk_swept = !has_disk || has(|line| matches!(line, Line::DiskSwept { .. }));
        is_disk_swept && has(|line| matches!(line, Line::Swept { .. }))
    }

    /// Checks that the counter runs from 1 on without gap or repeat, and that the guest found no fault.
    pub fn check(&self) -> Result<()> {
        if let Some(fault) = self.fault() {
            bail!("the guest found: {fault}");
        }
        let mut expected = 1;
        for line in &self.lines {
            match line {
                Line::Tick(number) if *number != expected => {
                    bail!("the guest's counter should say {expected} but says {number}")
                }
                Line::Tick(_) => expected += 1,
                Line::Swept { faults } | Line::DiskSwept { faults } if *faults > 0 => {
                    bail!("the guest counts {faults} faults")
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fault(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| match line {
            Line::Fault(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

impl Line {
    fn parse(said: &str) -> Self {
        let (first, rest) = said.split_once(' ').unwrap_or((said, ""));
        match first {
            "ready" => Self::Ready,
            "FAULT" => Self::Fault(rest.to_owned()),
            "swept" => Self::Swept { faults: value(rest, "faults=").unwrap_or(0) },
            "disk" if rest.starts_with("swept ") => {
                Self::DiskSwept { faults: value(rest, "faults=").unwrap_or(0) }
            }
            // It has nothing to check, which its reader does not expect.
            "disk" if rest.starts_with("unused: /") => Self::Fault(said.to_owned()),
            _ => value(first, "tick=").map_or(Self::Other, Self::Tick),
        }
    }
}

fn value(text: &str, name: &str) -> Option<u64> {
    text.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(said: &[&str]) -> Console {
        let lines = said.iter().map(|line| format!("NOVACRON-GUEST {line}\r\n"));
        Console::parse(
            &std::iter::once("[ 0.1] kernel\r\n".to_owned()).chain(lines).collect::<String>(),
        )
    }

    #[test]
    fn a_whole_story_passes() {
        let console =
            log(&["ready x=1", "tick=1 faults=0", "tick=2 faults=0", "swept pages=9 faults=0"]);
        assert!(console.is_ready().unwrap() && console.is_swept(false));
        assert!(!console.is_swept(true));
        assert_eq!(console.last_tick(), 2);
        console.check().unwrap();
    }

    #[test]
    fn a_disk_is_swept_for_itself() {
        let swept = ["swept pages=9 faults=0", "disk swept blocks=4 faults=0"];
        assert!(log(&swept).is_swept(true));
        assert!(!log(&swept[1..]).is_swept(true));
        assert!(!log(&["disk blocks=4 from_earlier_boot=0", swept[0]]).is_swept(true));
    }

    #[test]
    fn nothing_yet_is_nothing_wrong() {
        let console = Console::parse("NOVACRON-GUEST rea");
        assert!(!console.is_ready().unwrap() && !console.is_swept(false));
        assert_eq!(console.last_tick(), 0);
        console.check().unwrap();
    }

    #[test]
    fn gaps_repeats_and_faults_are_found() {
        assert!(log(&["ready", "tick=1", "tick=3"]).check().is_err());
        assert!(log(&["ready", "tick=1", "tick=1"]).check().is_err());
        assert!(log(&["swept pages=9 faults=2"]).check().is_err());
        assert!(log(&["disk swept blocks=9 faults=1"]).check().is_err());
        assert!(log(&["ready", "disk unused: /dev/vda: no room"]).is_ready().is_err());
        let fault = log(&["FAULT parameters memory_mib=9: only 3 MiB are free"]);
        assert!(fault.is_ready().unwrap_err().to_string().contains("only 3 MiB"));
        assert!(fault.check().is_err());
    }
}
