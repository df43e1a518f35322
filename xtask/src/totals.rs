//! The totals of a test run, from what the test binaries print.

use anyhow::{Result, bail};

/// What all test binaries together said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    binaries: u64,
    passed: u64,
    failed: u64,
    cargo_succeeded: bool,
}

impl Totals {
    /// Reads one line; those of interest are
    /// `test result: ok. 21 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in …`.
    pub fn add(&mut self, line: &str) {
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        let count = |what: &str| {
            let mut parts = counts.split("; ").map(|part| part.split_once(' '));
            let number = parts.find_map(|part| part.filter(|(_, name)| *name == what));
            number.and_then(|(number, _)| number.parse::<u64>().ok()).unwrap_or(0)
        };
        self.binaries += 1;
        self.passed += count("passed");
        self.failed += count("failed");
    }

    /// Notes whether cargo itself was content at the end.
    pub fn end(&mut self, cargo_succeeded: bool) {
        self.cargo_succeeded = cargo_succeeded;
    }

    /// Whether no binary said anything.
    pub fn is_empty(&self) -> bool {
        self.binaries == 0
    }

    /// Prints the totals alone on a line, for programs that look for them.
    pub fn report(&self) -> Result<()> {
        // A binary that died before it could count is a failure all the same.
        let failed = if self.cargo_succeeded { self.failed } else { self.failed.max(1) };
        println!("{} passed, {failed} failed", self.passed);
        if failed > 0 {
            bail!("tests failed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn adds_up_the_lines_of_all_binaries() {
        let mut totals = Totals { cargo_succeeded: true, ..Totals::default() };
        totals.add("running 3 tests");
        totals.add("test result: ok. 21 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s");
        totals.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s");
        assert_eq!((totals.binaries, totals.passed, totals.failed), (2, 24, 2));
        assert!(totals.report().is_err());
    }

    #[test]
    fn a_binary_that_died_is_a_failure() {
        assert!(Totals { passed: 5, ..Totals::default() }.report().is_err());
        assert!(Totals { passed: 5, cargo_succeeded: true, ..Totals::default() }.report().is_ok());
    }
}
