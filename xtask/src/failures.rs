//! What failed tests said, from what the test binaries print: it is said again at the end, since thousands of lines may be
//! between.

use std::collections::VecDeque;

/// Lines of one test that are said again: its last ones, where most tests say what was wrong and how to run them again.
const LINES_MAX: usize = 40;

/// Tests that are said again.
const TESTS_MAX: usize = 50;

/// What failed tests said.
#[derive(Debug, Default)]
pub struct Failures {
    tests: Vec<Said>,
    is_in_test: bool,
    is_in_backtrace: bool,
}

#[derive(Debug)]
struct Said {
    test: String,
    lines: VecDeque<String>,
}

impl Failures {
    /// Reads one line. What a failed test said begins with `---- NAME stdout ----`, and ends where the next one begins, or
    /// the list of all that failed. The functions that it was in are left out.
    pub fn add(&mut self, line: &str) {
        let test = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = test {
            self.is_in_test = self.tests.len() < TESTS_MAX;
            self.is_in_backtrace = false;
            if self.is_in_test {
                self.tests.push(Said { test: test.to_owned(), lines: VecDeque::new() });
            }
            return;
        }
        if line == "failures:" {
            self.is_in_test = false;
        }
        self.is_in_backtrace = match line {
            "stack backtrace:" => true,
            line => self.is_in_backtrace && line.starts_with(' '),
        };
        if !self.is_in_test || self.is_in_backtrace || line.is_empty() {
            return;
        }
        if let Some(said) = self.tests.last_mut() {
            said.lines.push_back(line.to_owned());
            if said.lines.len() > LINES_MAX {
                said.lines.pop_front();
            }
        }
    }

    /// Says it again.
    pub fn report(&self) {
        for Said { test, lines } in &self.tests {
            println!("==> failed: {test}");
            lines.iter().for_each(|line| println!("{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
running 3 tests
test a ... FAILED

failures:

---- a stdout ----
first
thread 'a' panicked at x.rs:1:1:
it is wrong
stack backtrace:
   0: core::panicking
             at /rustc/lib.rs:1:1
note: Some details are omitted

---- b stdout ----

to run it again: b

failures:
    a
    b

test result: FAILED. 1 passed; 2 failed";

    #[test]
    fn what_failed_tests_said_is_kept_without_where_they_were() {
        let mut failures = Failures::default();
        PRINTED.lines().for_each(|line| failures.add(line));
        let said = |number: usize| {
            let Said { test, lines } = &failures.tests[number];
            (test.as_str(), lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(failures.tests.len(), 2);
        let lines = vec![
            "first",
            "thread 'a' panicked at x.rs:1:1:",
            "it is wrong",
            "note: Some details are omitted",
        ];
        assert_eq!(said(0), ("a", lines));
        assert_eq!(said(1), ("b", vec!["to run it again: b"]));
    }

    #[test]
    fn of_much_the_end_is_kept() {
        let mut failures = Failures::default();
        failures.add("---- a stdout ----");
        (0..=LINES_MAX).for_each(|number| failures.add(&format!("line {number}")));
        assert_eq!(failures.tests[0].lines.len(), LINES_MAX);
        assert_eq!(failures.tests[0].lines[0], "line 1");
    }
}
