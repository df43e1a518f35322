//! The API's description, judged by somebody else: a validator of the OpenAPI Initiative's own schema, in Python.

use std::path::Path;
use std::process::Command;

use crate::python::Program;

const VALIDATOR: Program = Program {
    name: "openapi-validator",
    requirement: "openapi-spec-validator==0.7.2",
    module: "openapi_spec_validator",
};

#[test]
fn an_independent_validator_accepts_the_description() {
    let document = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
    let description = novacron_coordinator::http::openapi_document();
    std::fs::write(&document, serde_json::to_vec_pretty(&description).unwrap()).unwrap();
    let Some(python) = VALIDATOR.python() else { return };
    let output = Command::new(&python)
        .args(["-m", "openapi_spec_validator", "--schema", "3.0"])
        .arg(&document)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    println!("validated: {}", String::from_utf8_lossy(&said).trim());
}
