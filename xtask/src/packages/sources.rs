//! Where this machine's apt takes Debian from, so that one more suite of the same mirror can be
//! added. No address of a mirror is written in this project: it is always the machine's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DIRECTORY: &str = "/etc/apt";

/// One source of packages: where from, which suites, and every other field as it stands
/// (`Signed-By`, `Trusted`, …), because a suite of the same mirror needs the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    uris: String,
    suites: Vec<String>,
    others: Vec<(String, String)>,
}

impl Source {
    /// Whether it serves exactly this suite (`bookworm`, not `bookworm-security`).
    pub fn serves(&self, suite: &str) -> bool {
        self.suites.iter().any(|each| each == suite)
    }

    /// Where from.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.uris.split_whitespace()
    }

    /// The text of a `.sources` file for another suite of the same mirror.
    pub fn for_suite(&self, suite: &str) -> String {
        let mut text =
            format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n", self.uris);
        for (name, value) in &self.others {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }
}

/// Every source that apt is configured with on this machine.
pub fn configured() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in files(Path::new(DIRECTORY))? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(parse_stanzas(&text)),
            _ => sources.extend(text.lines().filter_map(parse_line)),
        }
    }
    Ok(sources)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let old_style = directory.join("sources.list");
    if old_style.exists() {
        files.push(old_style);
    }
    let parts = directory.join("sources.list.d");
    if parts.is_dir() {
        for entry in
            fs::read_dir(&parts).with_context(|| format!("cannot list {}", parts.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "list" || e == "sources") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Stanzas of `Name: value` lines (deb822) that are enabled and serve binary packages.
pub fn parse_stanzas(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(parse_stanza).collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let mut source = Source { uris: String::new(), suites: Vec::new(), others: Vec::new() };
    let mut types = String::new();
    for (name, value) in unfold(lines) {
        match name.to_ascii_lowercase().as_str() {
            "types" => types = value,
            "uris" => source.uris = value,
            "suites" => source.suites = value.split_whitespace().map(str::to_owned).collect(),
            "components" => {}
            "enabled" if matches!(value.to_ascii_lowercase().as_str(), "no" | "false") => {
                return None;
            }
            "enabled" => {}
            _ => source.others.push((name, value)),
        }
    }
    let binary = types.split_whitespace().any(|kind| kind == "deb");
    (binary && !source.uris.is_empty()).then_some(source)
}

/// Joins the continuation lines of each field to its first, as they stand.
fn unfold(lines: &[&str]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    fields
}

/// A line of the old style: `deb [signed-by=… arch=…] URI suite component…`.
fn parse_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.starts_with([' ', '\t']).then(|| rest.trim_start())?;
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uris = words.next()?.to_owned();
    let suites = vec![words.next()?.to_owned()];
    let others = options.split_whitespace().filter_map(option_as_field).collect();
    Some(Source { uris, suites, others })
}

/// `signed-by=/path` as the field `Signed-By: /path`.
fn option_as_field(option: &str) -> Option<(String, String)> {
    let (name, value) = option.split_once('=')?;
    let field = match name {
        "signed-by" => "Signed-By",
        "trusted" => "Trusted",
        "arch" => "Architectures",
        "check-valid-until" => "Check-Valid-Until",
        _ => return None,
    };
    Some((field.to_owned(), value.replace(',', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://other.example/debian
Suites: bookworm

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
";

    #[test]
    fn finds_the_enabled_binary_stanza() {
        let sources = parse_stanzas(STANZAS);
        assert_eq!(sources.len(), 1);
        assert!(sources[0].serves("bookworm"));
        assert!(!sources[0].serves("bookworm-backports"));
    }

    #[test]
    fn another_suite_keeps_mirror_and_keyring() {
        let text = parse_stanzas(STANZAS)[0].for_suite("bookworm-backports");
        assert_eq!(
            text,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n\
             Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn keeps_a_key_that_is_written_into_the_stanza() {
        let text =
            "Types: deb\nURIs: http://m.example\nSuites: bookworm\nSigned-By:\n KEY\n .\n END\n";
        let again = parse_stanzas(text)[0].for_suite("x");
        assert!(again.contains("Signed-By: \n KEY\n .\n END\n"), "{again}");
    }

    #[test]
    fn reads_lines_of_the_old_style() {
        let source = parse_line(
            "deb [signed-by=/k.gpg arch=amd64,i386] http://m.example/debian bookworm main",
        )
        .expect("a source");
        assert!(source.serves("bookworm"));
        let text = source.for_suite("bookworm-backports");
        assert!(text.contains("Signed-By: /k.gpg\nArchitectures: amd64 i386\n"), "{text}");
        assert_eq!(parse_line("# deb http://m.example bookworm main"), None);
        assert_eq!(parse_line("deb-src http://m.example bookworm main"), None);
        assert_eq!(parse_line("deb http://m.example"), None);
    }
}
