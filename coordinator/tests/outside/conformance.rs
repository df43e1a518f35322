//! Whether the API answers as its description says, whatever it is asked: by schemathesis, which makes requests out of
//! the description, good and bad ones, over TLS, against a real coordinator.
//!
//! A fixed seed and a bounded number of requests here; `cargo xtask conformance --examples N` for more.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use novacron_transport::Role;
use serde_json::{Value, json};

use crate::python::Program;
use crate::town::Town;

const SCHEMATHESIS: Program =
    Program { name: "schemathesis", requirement: "schemathesis==4.32.5", module: "schemathesis" };

/// Requests of each kind for each operation, unless the environment says another number.
const EXAMPLES: u32 = 3;
/// The variable that does.
const EXAMPLES_VARIABLE: &str = "NOVACRON_CONFORMANCE_EXAMPLES";
/// The variable that says another seed.
const SEED_VARIABLE: &str = "NOVACRON_CONFORMANCE_SEED";

/// What every answer is checked for.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    unsupported_method,missing_required_header";

/// Consoles need an agent, which is not here: they are rightly answered with a status above 500.
const WITHOUT: [&str; 2] = ["readConsole", "writeConsole"];

fn number(variable: &str, unless_said: u32) -> u32 {
    std::env::var(variable).map_or(unless_said, |text| text.parse().unwrap())
}

/// The description, with names of what is there, so that requests come further than to what is not there.
fn description(town: &Town, needs_key: bool) -> Value {
    let mut document = novacron_coordinator::http::openapi_document();
    let paths = document["paths"].as_object_mut().unwrap();
    for operation in
        paths.values_mut().flat_map(|methods| methods.as_object_mut().unwrap().values_mut())
    {
        // On a connection without a certificate, a key is the only thing that lets in.
        if needs_key && operation["security"].as_array().is_some_and(|all| !all.is_empty()) {
            operation["security"] = json!([{ "apiKey": [] }]);
        }
        for parameter in operation["parameters"].as_array_mut().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            let known = match parameter["in"].as_str().unwrap() {
                "path" => known(town, name),
                // A stream has no end to wait for.
                _ if name == "follow" => json!([false]),
                _ => continue,
            };
            parameter["schema"]["enum"] = known;
        }
    }
    document
}

/// What is there under the name of a part of a path: of the tenant, of another project if there is such, and nothing.
fn known(town: &Town, part: &str) -> Value {
    const NOTHING: &str = "01890000-0000-7000-8000-00000000dead";
    match part {
        "vm" => json!(["own-1", "own-3", "other-2", "none"]),
        "snapshot" => json!(["before", "none"]),
        "project" => json!(["own", "default", "none"]),
        "node" => json!(["node-01", "none"]),
        "member" => json!([1, 9]),
        "principal" => json!(["tenant", "none"]),
        "region" => json!(["eu", "none"]),
        "network" => json!(["office", "none"]),
        "secret" => json!(["password", "none"]),
        "period" => json!(["2026-11", "2027-01"]),
        "migration" => json!([town.migration("own"), town.migration("other"), NOTHING]),
        "batch" => json!([town.batch("own"), town.batch("other"), NOTHING]),
        "alert" => json!([town.alert("own"), town.alert("other"), NOTHING]),
        // Of an annotation, and of an API key that there is not: one that is withdrawn would end the tenant's requests.
        "binding" | "key" => json!([crate::town::ID, NOTHING]),
        other => panic!("say what `{{{other}}}` may be in a path"),
    }
}

struct Judge<'a> {
    town: &'a Town,
    python: PathBuf,
    directory: PathBuf,
    url: String,
}

impl Judge<'_> {
    /// Runs it; what it says is what a failure prints.
    async fn judge(
        &self,
        name: &str,
        needs_key: bool,
        checks: &str,
        more: &[String],
    ) -> Result<(), String> {
        let document = self.directory.join(format!("{name}.json"));
        let text = serde_json::to_vec_pretty(&description(self.town, needs_key)).unwrap();
        std::fs::write(&document, text).unwrap();
        let (examples, seed) = (number(EXAMPLES_VARIABLE, EXAMPLES), number(SEED_VARIABLE, 7));
        let mut command = tokio::process::Command::new(self.python.with_file_name("st"));
        command.arg("run").arg(&document);
        command.args(["--url", &self.url, "--checks", checks]);
        command.args(["--max-examples", &examples.to_string(), "--seed", &seed.to_string()]);
        command.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
        command.args(["--suppress-health-check", "all", "--warnings", "off", "--no-shrink"]);
        command
            .args(["--request-timeout", "20", "--tls-verify"])
            .arg(self.directory.join("ca.pem"));
        command.args(WITHOUT.iter().flat_map(|one| ["--exclude-operation-id", one]));
        command.args(more).current_dir(&self.directory).stdin(Stdio::null());
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if !output.status.success() {
            let again = format!("cargo xtask conformance --examples {examples} --seed {seed}");
            return Err(format!("{name}: {said}\n\nagain: {again}\n"));
        }
        let last: Vec<&str> = said.lines().rev().take(12).collect();
        println!("{name}:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        Ok(())
    }
}

fn write(directory: &Path, name: &str, text: &[u8]) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_as_its_description_says() {
    let Some(python) = SCHEMATHESIS.python() else { return };
    let town = Town::build().await;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let credentials = town.member.credentials(Role::Operator, "admin");
    write(place, "ca.pem", credentials.anchors_pem().as_bytes());
    let certificate = write(place, "cert.pem", credentials.chain_pem().as_bytes());
    let key = write(place, "key.pem", credentials.key_pem().as_bytes());
    let url = format!("https://{}", town.member.api_address());
    let judge = Judge { town: &town, python, directory: place.to_owned(), url };

    town.principal("tenant", "service").await;
    town.bind("tenant", json!({ "role": "admin", "project": "own" })).await;
    let secret = town.key("tenant").await["key"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {secret}");
    let checks = format!("{CHECKS},ignored_auth");
    let tenant = judge.judge("tenant", true, &checks, &["--header".to_owned(), bearer]).await;
    let shown = ["--request-cert", &certificate, "--request-cert-key", &key].map(str::to_owned);
    let operator = judge.judge("operator", false, CHECKS, &shown).await;
    let wrong: Vec<String> = [tenant, operator].into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        town.member.client(Role::Operator).get("/api/v1/audit/verify").await.json()["intact"],
        true
    );
}

/// Every route that is not for anybody, without any credentials, is refused before it says anything else.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_to_nobody() {
    use novacron_coordinator::auth::Access;
    let town = Town::build().await;
    let nobody = town.member.anonymous();
    for route in novacron_coordinator::http::routes::table() {
        let path = town.path(route.path, "own");
        let answer = nobody.send(route.method.as_str(), &path, &[], b"{}").await;
        match route.access {
            Access::Anybody => assert_ne!(answer.status, 401, "{path}"),
            Access::Principals | Access::Needs(..) => {
                assert_eq!(answer.problem().1, "not_authenticated", "{} {path}", route.method);
            }
        }
    }
}
