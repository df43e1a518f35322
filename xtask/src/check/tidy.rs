//! Rules about every source file.

use super::Finding;
use super::tracked::{Line, TextFile};

/// The longest Rust file: past this it holds more than one idea.
const LINES_MAX: usize = 900;
/// Directories that only one machine has. In two pieces, so that this file keeps its own rule.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/.")];
/// The places that may wait for the outside world by looking again: a test of several processes has
/// to, and does it with a deadline.
const POLLING_PLACES: &[&str] = &["tests/src/wait.rs", "coordinator/tests/all/support/wait.rs"];

/// What is wrong with one file; `hosts` are names of registries and mirrors.
pub fn findings(file: &TextFile, hosts: &[String]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = too_long(file).into_iter().collect();
    findings.extend(machine_names(file, hosts));
    if let Some(rust) = &file.rust {
        let broken = rust.lines().flat_map(|line| {
            let rules = line_rules(file, &line);
            rules.map(move |what| finding_at(file, line.number, what)).collect::<Vec<_>>()
        });
        findings.extend(broken);
    }
    findings
}

fn too_long(file: &TextFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    (file.rust.is_some() && lines > LINES_MAX).then(|| Finding {
        place: file.path.clone(),
        what: format!("has {lines} lines, more than {LINES_MAX}: split it by ideas"),
    })
}

/// The rules that one line of code breaks.
fn line_rules(file: &TextFile, line: &Line<'_>) -> impl Iterator<Item = &'static str> {
    let code = line.code;
    let polls = POLLING_PLACES.contains(&file.path.as_str());
    let unfinished = code.contains("todo!") || code.contains("unimplemented!");
    let ignored = code.contains("#[ignore");
    let sleeps = line.is_test && !polls && calls_sleep(code);
    let unsafely = !may_be_unsafe(&file.path)
        && ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|u| code.contains(u));
    [
        unfinished.then_some("unfinished code: finish it or leave it out"),
        ignored.then_some("a test that is never run: make it pass or remove it"),
        sleeps.then_some("a test that sleeps: wait for what it waits for, or give it a clock"),
        unsafely.then_some("unsafe outside its places: ask there for a safe function"),
    ]
    .into_iter()
    .flatten()
}

/// `sleep(` as a whole word: a function may be named for its not sleeping. As a branch of a `select!`
/// it is a deadline, which is no nap.
fn calls_sleep(code: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let calls = |(at, _): (usize, &str)| !code[..at].ends_with(part) && !code[at..].contains("=>");
    code.match_indices("sleep(").any(calls)
}

/// What the agent asks of the kernel, and the one function that a simulation puts in the place of libc's.
fn may_be_unsafe(path: &str) -> bool {
    path.starts_with("agent/src/sys") || path == "simulation/src/entropy.rs"
}

/// Names of machines: directories of the one it was written on, hosts of registries.
fn machine_names(file: &TextFile, hosts: &[String]) -> Vec<Finding> {
    // cargo itself writes the name of its registry into these.
    if file.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            findings.push(finding_at(
                file,
                index + 1,
                &format!("names {path}, a directory of one machine"),
            ));
        }
        for host in hosts.iter().filter(|host| line.contains(host.as_str())) {
            findings.push(finding_at(
                file,
                index + 1,
                &format!("names the package registry {host}"),
            ));
        }
    }
    findings
}

/// Whether the path stands there as a whole, not as the end of a longer one.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}*~".contains(c))
    })
}

fn finding_at(file: &TextFile, line: usize, what: &str) -> Finding {
    Finding { place: format!("{}:{line}", file.path), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        let hosts = ["registry.example".to_owned()];
        let file = TextFile::new(path, text.to_owned());
        findings(&file, &hosts).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_clean_file_is_clean() {
        let text = "//! todo! in prose, and \"quoted\".\nfn f() { wait(\"sleep(1)\"); }\n";
        assert!(places("agent/src/a.rs", text).is_empty());
    }

    #[test]
    fn unfinished_code_is_found() {
        assert_eq!(places("agent/src/a.rs", "fn f() {\n    todo!()\n}\n"), ["agent/src/a.rs:2"]);
        assert_eq!(places("agent/src/a.rs", "unimplemented!()"), ["agent/src/a.rs:1"]);
        assert_eq!(places("agent/src/a.rs", "#[ignore = \"slow\"]"), ["agent/src/a.rs:1"]);
    }

    #[test]
    fn only_tests_may_not_sleep() {
        let text =
            "fn f() { sleep(second); }\n#[cfg(test)]\nmod tests {\n fn g() { sleep(second); }\n}\n";
        assert_eq!(places("agent/src/a.rs", text), ["agent/src/a.rs:4"]);
        assert_eq!(places("tests/tests/journey.rs", "sleep(second)"), ["tests/tests/journey.rs:1"]);
        assert!(places("tests/src/wait.rs", "sleep(second)").is_empty());
        assert!(places("agent/tests/a.rs", "() = sleep(PATIENCE) => panic!(),").is_empty());
        assert!(places("agent/tests/a.rs", "fn may_not_sleep() {}").is_empty());
    }

    #[test]
    fn unsafe_has_one_place() {
        assert!(places("agent/src/sys/mapping.rs", "unsafe { f() }").is_empty());
        assert!(places("simulation/src/entropy.rs", "unsafe { f() }").is_empty());
        assert_eq!(places("agent/src/vm/mod.rs", "unsafe { f() }").len(), 1);
        assert_eq!(places("simulation/src/wire.rs", "unsafe { f() }").len(), 1);
        assert!(places("agent/src/vm/mod.rs", "#![forbid(unsafe_code)]").is_empty());
    }

    #[test]
    fn machines_and_registries_are_not_named() {
        let path = MACHINE_PATHS[0];
        assert_eq!(places("README.md", &format!("see {path}notes\n")), ["README.md:1"]);
        assert!(places("README.md", &format!("target{path}notes\n")).is_empty());
        assert_eq!(places("a.toml", "x\nurl = \"https://registry.example/x\"\n"), ["a.toml:2"]);
        assert!(places("Cargo.lock", "registry.example").is_empty());
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(places("a.rs", &"\n".repeat(LINES_MAX + 1)), ["a.rs"]);
        assert!(places("a.rs", &"\n".repeat(LINES_MAX)).is_empty());
        assert!(places("a.md", &"\n".repeat(LINES_MAX + 1)).is_empty());
    }
}
