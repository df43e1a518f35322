//! The API's description, judged by somebody else: a validator of the OpenAPI Initiative's own schema, in Python.
//!
//! It is installed once into the build directory. Without network, `NOVACRON_OFFLINE=1` says that this is
//! known, and the test says that nothing was validated.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The validator, at the version that this was written against.
const VALIDATOR: &str = "openapi-spec-validator==0.7.2";

#[test]
fn an_independent_validator_accepts_the_description() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let document = directory.join("openapi.json");
    let description = novacron_coordinator::http::openapi_document();
    std::fs::write(&document, serde_json::to_vec_pretty(&description).unwrap()).unwrap();
    if !runs(Command::new("python3").arg("--version")) {
        println!("not validated: there is no python3");
        return;
    }
    let python = match installed(&directory.join("openapi-validator")) {
        Ok(python) => python,
        Err(problem) if std::env::var_os("NOVACRON_OFFLINE").is_some_and(|value| value == "1") => {
            println!("not validated, NOVACRON_OFFLINE=1: {problem}");
            return;
        }
        Err(problem) => panic!("{problem}; set NOVACRON_OFFLINE=1 to go without"),
    };
    let output = Command::new(&python)
        .args(["-m", "openapi_spec_validator", "--schema", "3.0"])
        .arg(&document)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    println!("validated by {VALIDATOR}: {}", String::from_utf8_lossy(&said).trim());
}

/// The Python of a virtual environment that has the validator, made unless it is there.
fn installed(environment: &Path) -> Result<PathBuf, String> {
    let python = environment.join("bin/python");
    let has_validator =
        |python: &Path| runs(Command::new(python).args(["-c", "import openapi_spec_validator"]));
    if has_validator(&python) {
        return Ok(python);
    }
    if !runs(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment)) {
        return Err("python3 cannot make a virtual environment (Debian: python3-venv)".to_owned());
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", VALIDATOR];
    if !runs(Command::new(&python).args(install)) || !has_validator(&python) {
        return Err(format!("pip cannot install {VALIDATOR}"));
    }
    Ok(python)
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
