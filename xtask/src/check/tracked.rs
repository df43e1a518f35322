//! The files of the project: what git tracks, and what it would be asked to track next.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::code;
use crate::process;
use crate::workspace::Workspace;

/// One text file.
#[derive(Debug)]
pub struct TextFile {
    /// Path from the root of the project.
    pub path: String,
    /// All of it.
    pub text: String,
    /// For Rust files: the code alone, and where tests begin in it.
    pub rust: Option<RustCode>,
}

/// The code of a Rust file.
#[derive(Debug)]
pub struct RustCode {
    code: String,
    first_test_line: usize,
}

impl TextFile {
    /// A file with this path and text.
    pub fn new(path: &str, text: String) -> Self {
        let rust = path.ends_with(".rs").then(|| RustCode::new(path, &text));
        Self { path: path.to_owned(), text, rust }
    }
}

impl RustCode {
    fn new(path: &str, text: &str) -> Self {
        let code = code::only(text);
        let first_test_line = if is_test_path(path) {
            0
        } else {
            // Tests are the last item of a file here.
            code.lines().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(usize::MAX)
        };
        Self { code, first_test_line }
    }

    /// Every line, numbered from 1, with whether it belongs to tests.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.code.lines().enumerate().map(|(index, code)| Line {
            number: index + 1,
            code,
            is_test: index >= self.first_test_line,
        })
    }
}

/// A line of code.
#[derive(Debug)]
pub struct Line<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// The line without comments and strings.
    pub code: &'a str,
    /// Whether only tests compile it.
    pub is_test: bool,
}

/// Whether the whole file is tests. The guest's program lives among the tests but is none.
fn is_test_path(path: &str) -> bool {
    if path.starts_with("tests/guest/") {
        return false;
    }
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

/// Every text file of the project.
pub fn files(workspace: &Workspace) -> Result<Vec<TextFile>> {
    let listing = process::capture(
        Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(workspace.root()),
    )?;
    let paths = listing.split('\0').filter(|path| !path.is_empty());
    // Not text, or tracked but removed in this checkout: no rule is about those.
    let read = |path: &str| fs::read_to_string(workspace.root().join(path)).ok();
    Ok(paths.filter_map(|path| Some(TextFile::new(path, read(path)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::TextFile;

    fn test_lines(path: &str, text: &str) -> Vec<usize> {
        let file = TextFile::new(path, text.to_owned());
        let rust = file.rust.expect("a Rust file");
        rust.lines().filter(|line| line.is_test).map(|line| line.number).collect()
    }

    #[test]
    fn knows_where_tests_begin() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(test_lines("agent/src/a.rs", text), [2, 3]);
        assert_eq!(test_lines("agent/tests/a.rs", text), [1, 2, 3]);
        assert_eq!(test_lines("agent/src/vm/tests.rs", "x\n"), [1]);
        assert_eq!(test_lines("tests/guest/src/a.rs", "x\n"), [] as [usize; 0]);
    }
}
