//! What to do about missing packages, as a value: it can be carried out, or printed for a person
//! who may.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::need::{Need, QEMU_MAJOR_MIN};
use super::sources::Source;
use crate::process;

/// Debian 12, whose own QEMU is 7.2.
const BEFORE_QEMU_10: &str = "bookworm";
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/novacron-backports.sources";

/// The Debian release of this machine, by its code name.
#[derive(Debug)]
pub struct Release {
    codename: String,
}

impl Release {
    /// Reads `/etc/os-release`.
    pub fn parse(os_release: &str) -> Result<Self> {
        let value = |key: &str| {
            let line =
                os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            Some(line.trim_matches('"').to_owned())
        };
        match (value("ID").as_deref(), value("VERSION_CODENAME")) {
            (Some("debian"), Some(codename)) => Ok(Self { codename }),
            (other, _) => bail!(
                "packages are only installed on Debian, this is {}; install QEMU {QEMU_MAJOR_MIN} \
                 or newer, swtpm, busybox-static, xz and iproute2 by hand",
                other.unwrap_or("not named in /etc/os-release")
            ),
        }
    }

    fn backports(&self) -> String {
        format!("{}-backports", self.codename)
    }
}

/// A version of QEMU that apt knows, and the suite it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    major: u32,
    suite: String,
}

/// Reads `apt-cache madison`: lines of `package | version | URI suite/component Packages`.
pub fn offers(madison: &str) -> Vec<Offer> {
    madison.lines().filter_map(offer).collect()
}

fn offer(line: &str) -> Option<Offer> {
    let mut columns = line.split('|').map(str::trim);
    let version = columns.nth(1)?;
    let suite = columns.next()?.split_whitespace().nth(1)?.split('/').next()?.to_owned();
    let upstream = version.split_once(':').map_or(version, |(_, upstream)| upstream);
    let major = upstream.split('.').next()?.parse().ok()?;
    Some(Offer { major, suite })
}

/// One step, to be done as root.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a file.
    Write {
        /// Where.
        path: &'static str,
        /// The whole text.
        text: String,
    },
    /// Run a program.
    Run(Vec<String>),
}

/// The steps that bring every missing package, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    notes: Vec<String>,
    steps: Vec<Step>,
}

impl Plan {
    /// Decides, from what is missing and what apt knows now.
    pub fn new(
        missing: &[&Need],
        release: &Release,
        sources: &[Source],
        qemu: &[Offer],
    ) -> Result<Self> {
        let mut plan = Self { notes: Vec::new(), steps: Vec::new() };
        let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
        let (from_qemu, plain): (Vec<&str>, Vec<&str>) =
            packages.into_iter().partition(|package| package.starts_with("qemu-"));
        if !plain.is_empty() {
            plan.steps.push(Step::Run(install(None, &plain)));
        }
        if !from_qemu.is_empty() {
            let suite = plan.suite_for_qemu(release, sources, qemu)?;
            plan.steps.push(Step::Run(install(Some(&suite), &from_qemu)));
        }
        Ok(plan)
    }

    /// A suite with a new enough QEMU, adding backports if apt knows of none.
    fn suite_for_qemu(
        &mut self,
        release: &Release,
        sources: &[Source],
        offers: &[Offer],
    ) -> Result<String> {
        if let Some(offer) = offers.iter().find(|offer| offer.major >= QEMU_MAJOR_MIN) {
            return Ok(offer.suite.clone());
        }
        if offers.is_empty() && release.codename != BEFORE_QEMU_10 {
            // apt's lists were never read, and we may not; the release itself has it.
            return Ok(release.codename.clone());
        }
        let suite = release.backports();
        if sources.iter().any(|source| source.serves(&suite)) {
            // Its lists may just not have been read yet.
            return Ok(suite);
        }
        let mirror =
            sources.iter().find(|source| source.serves(&release.codename)).with_context(|| {
                format!(
                    "apt has no source with the suite {}, so {suite} cannot be added",
                    release.codename
                )
            })?;
        self.notes.push(format!(
            "{} itself has no QEMU {QEMU_MAJOR_MIN}; {suite} has, on the mirror that apt already uses: it goes into {BACKPORTS_FILE}",
            release.codename
        ));
        self.steps.push(Step::Write { path: BACKPORTS_FILE, text: mirror.for_suite(&suite) });
        self.steps.push(Step::refresh());
        Ok(suite)
    }

    /// What a person should know before it happens.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The plan as lines for a root shell.
    pub fn as_shell(&self) -> String {
        self.steps.iter().map(Step::as_shell).collect::<Vec<_>>().join("\n")
    }

    /// Carries it out; `prefix` is what makes a command run as root.
    pub fn execute(&self, prefix: &[&str]) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.execute(prefix))
    }
}

impl Step {
    /// Lets apt read its lists anew.
    pub fn refresh() -> Self {
        Self::Run(words(&["apt-get", "update", "--quiet=2"]))
    }

    /// The step as lines for a root shell.
    pub fn as_shell(&self) -> String {
        match self {
            Self::Write { path, text } => format!("printf %s {} > {path}", process::quote(text)),
            Self::Run(words) => {
                words.iter().map(|word| process::quote(word)).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Carries out one step, saying which.
    pub fn execute(&self, prefix: &[&str]) -> Result<()> {
        match self {
            Self::Write { path, text } => {
                println!("Writing {path}");
                write_as_root(prefix, path, text)
            }
            Self::Run(words) => {
                println!("Running {}", self.as_shell());
                process::run(&mut as_root(
                    prefix,
                    &words.iter().map(String::as_str).collect::<Vec<_>>(),
                ))
            }
        }
    }
}

fn as_root(prefix: &[&str], words: &[&str]) -> Command {
    let mut all = prefix.iter().chain(words);
    let mut command = Command::new(all.next().copied().unwrap_or_default());
    command.args(all).stdin(Stdio::null());
    command
}

fn write_as_root(prefix: &[&str], path: &str, text: &str) -> Result<()> {
    let mut child = as_root(prefix, &["tee", path])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot write {path}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    if !child.wait()?.success() {
        bail!("cannot write {path}");
    }
    Ok(())
}

/// An installation without questions and without recommended extras.
fn install(suite: Option<&str>, packages: &[&str]) -> Vec<String> {
    let mut command = words(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install"]);
    command.extend(words(&["--yes", "--quiet=2", "--no-install-recommends"]));
    // Plain lines, also where there is no terminal.
    command.extend(words(&["--option", "Dpkg::Use-Pty=0"]));
    if let Some(suite) = suite {
        command.push(format!("--target-release={suite}"));
    }
    command.extend(words(packages));
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{need, sources};
    use super::*;

    const BOOKWORM: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";
    const TRIXIE: &str = "ID=debian\nVERSION_CODENAME=trixie\n";
    const OLD: &str =
        " qemu-system-x86 | 1:7.2+dfsg-7 | http://m.example/debian bookworm/main amd64 Packages\n";
    const BACKPORT: &str = " qemu-system-x86 | 1:10.0.2+ds-2~bpo12+1 | http://m.example/debian bookworm-backports/main amd64 Packages\n";
    const NEW: &str =
        " qemu-system-x86 | 1:10.0.13+ds-0 | http://m.example/debian trixie/main amd64 Packages\n";

    fn plan(os_release: &str, madison: &str, mirror_suites: &str) -> Result<Plan> {
        let all: Vec<&Need> = need::FOR_HOSTS.iter().chain(need::FOR_TESTS).collect();
        let sources = sources::parse_stanzas(&format!(
            "Types: deb\nURIs: http://m.example/debian\nSuites: {mirror_suites}\nSigned-By: /key\n"
        ));
        Plan::new(&all, &Release::parse(os_release)?, &sources, &offers(madison))
    }

    #[test]
    fn debian_13_has_all_it_needs() {
        let shell = plan(TRIXIE, NEW, "trixie").unwrap().as_shell();
        assert_eq!(shell.lines().count(), 2, "{shell}");
        assert!(shell.contains("--target-release=trixie qemu-system-x86 qemu-utils"), "{shell}");
        let lists_unread = plan(TRIXIE, "", "trixie").unwrap();
        assert_eq!(lists_unread.as_shell(), shell);
    }

    #[test]
    fn debian_12_gets_backports_from_its_own_mirror() {
        let plan = plan(BOOKWORM, OLD, "bookworm").unwrap();
        assert_eq!(plan.notes().len(), 1);
        let text = "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm-backports\n\
                    Components: main\nSigned-By: /key\n";
        let write = Step::Write { path: BACKPORTS_FILE, text: text.to_owned() };
        assert!(plan.steps.contains(&write), "{plan:?}");
        assert!(plan.as_shell().contains("--target-release=bookworm-backports qemu"));
    }

    #[test]
    fn backports_that_are_there_are_used() {
        let known = plan(BOOKWORM, &format!("{BACKPORT}{OLD}"), "bookworm").unwrap();
        assert!(known.notes().is_empty());
        assert!(known.as_shell().contains("--target-release=bookworm-backports qemu"));
        let unread = plan(BOOKWORM, OLD, "bookworm bookworm-backports").unwrap();
        assert!(unread.notes().is_empty());
    }

    #[test]
    fn other_systems_are_told_what_to_install() {
        let error = plan("ID=arch\n", "", "").unwrap_err().to_string();
        assert!(error.contains("this is arch") && error.contains("swtpm"), "{error}");
        assert!(plan(BOOKWORM, OLD, "sid").is_err());
    }
}
