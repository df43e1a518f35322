//! Rules about places inside crates: what the modules named in ARCHITECTURE.md never contain.

use super::Finding;
use super::tracked::TextFile;

/// A place and the words that its code never contains.
struct Place {
    /// The module's file (`x.rs`) or directory (`x/`), without either ending.
    path: &'static str,
    never: &'static [&'static str],
    because: &'static str,
}

const PURE: &[&str] = &["tokio", "openraft", "axum", "std::time", "HashMap", "HashSet", "rand"];

const PLACES: &[Place] = &[
    Place {
        path: "coordinator/src/state",
        never: PURE,
        because: "every replica must reach the same bytes",
    },
    Place {
        path: "coordinator/src/planner",
        never: PURE,
        because: "plans are values that can be printed and tested",
    },
    Place {
        path: "coordinator/src/http",
        never: &["crate::raft", "crate::outbox", "openraft"],
        because: "it only makes intents and reads through `view`",
    },
    Place {
        path: "protocol/src",
        never: &[
            "tokio",
            "quinn",
            "rand",
            "std::fs",
            "std::thread",
            "std::process",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "Instant::now",
            "SystemTime",
        ],
        because: "it is pure: fuzzed, simulated, replayed",
    },
    Place {
        path: "agent/src",
        never: &["openraft"],
        because: "an agent knows effects and generations, not consensus",
    },
];

/// A word that only one place contains.
struct OnlyIn {
    word: &'static str,
    /// Crates the rule is about.
    within: &'static str,
    path: &'static str,
}

const ONLY_IN: &[OnlyIn] =
    &[OnlyIn { word: "openraft", within: "coordinator/src", path: "coordinator/src/raft" }];

/// What one file contains that its place forbids. Tests of a place are free.
pub fn findings(file: &TextFile) -> Vec<Finding> {
    let Some(rust) = &file.rust else { return Vec::new() };
    let mut findings = Vec::new();
    for line in rust.lines().filter(|line| !line.is_test) {
        let mut report = |what: String| {
            findings.push(Finding { place: format!("{}:{}", file.path, line.number), what });
        };
        for place in PLACES.iter().filter(|place| is_within(&file.path, place.path)) {
            for word in place.never.iter().filter(|word| has_word(line.code, word)) {
                report(format!("{} never contains `{word}`: {}", place.path, place.because));
            }
        }
        for rule in ONLY_IN {
            let elsewhere = is_within(&file.path, rule.within) && !is_within(&file.path, rule.path);
            if elsewhere && has_word(line.code, rule.word) {
                report(format!("`{}` is only in {}", rule.word, rule.path));
            }
        }
    }
    findings
}

fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Whether the word stands there whole: `rand` is not in `operand`.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        findings(&TextFile::new(path, text.to_owned())).len()
    }

    #[test]
    fn the_state_is_pure() {
        assert_eq!(broken("coordinator/src/state/vm.rs", "use std::collections::HashMap;"), 1);
        assert_eq!(broken("coordinator/src/state.rs", "use tokio::sync::mpsc;"), 1);
        assert_eq!(broken("coordinator/src/state/vm.rs", "use std::collections::BTreeMap;"), 0);
        assert_eq!(broken("coordinator/src/statement.rs", "use tokio::sync::mpsc;"), 0);
        assert_eq!(broken("coordinator/src/state/vm.rs", "let operand = 1; // rand"), 0);
    }

    #[test]
    fn tests_of_a_pure_place_are_free() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }\n";
        assert_eq!(broken("coordinator/src/state/vm.rs", text), 0);
    }

    #[test]
    fn http_does_not_reach_around_the_intents() {
        assert_eq!(broken("coordinator/src/http/vms.rs", "use crate::raft::Node;"), 1);
        assert_eq!(broken("coordinator/src/http/vms.rs", "use crate::propose::Intent;"), 0);
    }

    #[test]
    fn openraft_has_one_home() {
        assert_eq!(broken("coordinator/src/raft/store.rs", "use openraft::Entry;"), 0);
        assert_eq!(broken("coordinator/src/agents.rs", "use openraft::Entry;"), 1);
    }
}
