//! `benches/RESULTS.md`: one section for each kind of comparison, the newest figures only; older ones are in its
//! history.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const HEAD: &str = "# Results\n\nWritten by `cargo xtask bench … --record`; each section has its machine and its command.\n";

/// Puts a section into the document in this directory.
pub fn record(directory: &Path, title: &str, body: &str) -> Result<()> {
    let path = directory.join("RESULTS.md");
    let document = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, put_section(&document, title, body))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("recorded in {}", path.display());
    Ok(())
}

/// The document with this section in place of the one of the same title, or at the end.
fn put_section(document: &str, title: &str, body: &str) -> String {
    let heading = format!("## {title}");
    let section = format!("{heading}\n\n{}\n", body.trim());
    let mut parts = split(if document.trim().is_empty() { HEAD } else { document });
    match parts.iter_mut().find(|part| part.lines().next() == Some(heading.as_str())) {
        Some(part) => *part = section,
        None => parts.push(section),
    }
    let trimmed: Vec<_> = parts.iter().map(|part| part.trim_end()).collect();
    trimmed.join("\n\n") + "\n"
}

/// What is before the first section, and the sections.
fn split(document: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in document.split_inclusive('\n') {
        if line.starts_with("## ") {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_namesake_only() {
        let one = put_section("", "one", "1\n");
        assert_eq!(one, format!("{HEAD}\n## one\n\n1\n"));
        let two = put_section(&one, "two", "2");
        assert_eq!(two, format!("{HEAD}\n## one\n\n1\n\n## two\n\n2\n"));
        let again = put_section(&two, "one", "3");
        assert_eq!(again, format!("{HEAD}\n## one\n\n3\n\n## two\n\n2\n"));
    }

    #[test]
    fn putting_it_twice_is_putting_it_once() {
        let once = put_section("# Mine\n\ntext\n", "one", "1");
        assert_eq!(put_section(&once, "one", "1"), once);
        assert!(once.starts_with("# Mine\n\ntext\n\n## one"));
    }
}
