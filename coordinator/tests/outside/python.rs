//! Programs in Python that judge from outside, each in an environment of its own in the build directory, at the version
//! that the tests were written against.
//!
//! Without network, `NOVACRON_OFFLINE=1` says that this is known, and the test says that nothing was judged.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program.
pub struct Program {
    /// The directory of its environment.
    pub name: &'static str,
    /// What pip installs, with its version.
    pub requirement: &'static str,
    /// What Python imports of it.
    pub module: &'static str,
}

impl Program {
    /// The Python of an environment that has the program, or nothing if it is known that there can be none.
    pub fn python(&self) -> Option<PathBuf> {
        match self.installed(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name)) {
            Ok(python) => Some(python),
            Err(problem)
                if std::env::var_os("NOVACRON_OFFLINE").is_some_and(|value| value == "1") =>
            {
                println!("not judged, NOVACRON_OFFLINE=1: {problem}");
                None
            }
            Err(problem) => panic!("{problem}; set NOVACRON_OFFLINE=1 to go without"),
        }
    }

    /// Made unless it is there.
    fn installed(&self, environment: &Path) -> Result<PathBuf, String> {
        let python = environment.join("bin/python");
        if self.is_in(&python) {
            return Ok(python);
        }
        if !runs(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment)) {
            let text = "python3 cannot make a virtual environment (Debian: python3-venv)";
            return Err(text.to_owned());
        }
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let mut pip = Command::new(&python);
        if !runs(pip.args(install).arg(self.requirement)) || !self.is_in(&python) {
            return Err(format!("pip cannot install {}", self.requirement));
        }
        Ok(python)
    }

    fn is_in(&self, python: &Path) -> bool {
        let (name, version) = self.requirement.split_once("==").unwrap();
        let code = format!(
            "import {}, importlib.metadata as m; assert m.version('{name}') == '{version}'",
            self.module
        );
        runs(Command::new(python).args(["-c", &code]))
    }
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
