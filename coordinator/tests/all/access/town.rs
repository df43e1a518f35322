//! A fleet with two projects and everything that a route can name in each, and one client for each column of the table.

use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::Https;
use crate::member::Member;
use crate::support::until;

pub const PROJECTS: [&str; 2] = ["own", "other"];
/// What is named so is not there, annotations apart.
pub const ID: &str = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";
const ROLES: [&str; 5] = ["viewer", "operator", "admin", "auditor", "billing"];

/// The fleet.
pub struct Town {
    pub member: Member,
    pub admin: Https,
    /// Of each project: its migration and its batch.
    migrations: [String; 2],
    batches: [String; 2],
    /// Of each project, and of none.
    alerts: [String; 3],
}

/// Somebody who asks.
pub struct Column {
    /// As the table writes it.
    pub letter: char,
    client: Https,
    key: Option<String>,
}

impl Column {
    /// The status of the answer to a request.
    pub async fn ask(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        let header = self.key.as_ref().map(|key| ("authorization", format!("Bearer {key}")));
        let headers: Vec<_> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client.send(method, path, &headers, body).await.status
    }
}

impl Town {
    pub async fn build() -> Self {
        let member = Member::start().await;
        for node in ["node-01", "node-02"] {
            member.join_node(node, 64 << 30).await;
        }
        let admin = member.client(Role::Operator);
        post(&admin, "regions", json!({ "region_code": "eu" })).await;
        post(&admin, "networks", json!({ "name": "office", "bridge": "br0" })).await;
        for project in PROJECTS {
            post(&admin, "projects", json!({ "name": project })).await;
            for number in 1..=3 {
                let body = json!({
                    "name": format!("{project}-{number}"),
                    "project": project,
                    "node": if number < 3 { "node-01" } else { "node-02" },
                    "start": false,
                    "memory": 16 << 20,
                    "disk": 1 << 20,
                    "labels": { "batch": format!("{project}-{number}") },
                });
                post(&admin, "vms", body).await;
            }
        }
        for project in PROJECTS {
            let path = format!("/api/v1/vms/{project}-1/annotations/{ID}");
            let answer = admin.send("PUT", &path, &[], br#"{"value":"a text"}"#).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for path in ["secrets", "projects/own/secrets", "projects/other/secrets"] {
            keep_secret(&admin, &format!("/api/v1/{path}/password"), "a value").await;
        }
        for node in ["node-01", "node-02"] {
            member.settle(node).await;
        }
        for project in PROJECTS {
            // One that does not move: a machine with snapshots cannot.
            let path = format!("vms/{project}-3/snapshots");
            post(&admin, &path, json!({ "name": "before" })).await;
        }
        let (mut migrations, mut batches) = (Vec::new(), Vec::new());
        for project in PROJECTS {
            let to = json!({ "target": "node-02", "mode": "cold" });
            let made = post(&admin, &format!("vms/{project}-1/migrate"), to).await;
            migrations.push(made["migration_id"].as_str().unwrap().to_owned());
            let body = json!({
                "from": "node-01",
                "to": "node-02",
                "labels": { "batch": format!("{project}-2") },
            });
            let made = post(&admin, "migrations/batch", body).await;
            batches.push(made["batch_id"].as_str().unwrap().to_owned());
        }
        let mut alerts = Vec::new();
        for object in ["vm/own-1", "vm/other-1", "cluster"] {
            let body =
                json!({ "key": "slow", "severity": "info", "summary": "a test", "object": object });
            let made = post(&admin, "alerts", body).await;
            alerts.push(made["id"].as_str().unwrap().to_owned());
        }
        let (migrations, batches) = (pair(migrations), pair(batches));
        let alerts = alerts.try_into().unwrap();
        Self { member, admin, migrations, batches, alerts }
    }

    /// The path of a route, what it names filled in with what belongs to a project.
    pub fn path(&self, path: &str, project: &str) -> String {
        let machine = if path.contains("/snapshots") { 3 } else { 1 };
        path.replace("{vm}", &format!("{project}-{machine}"))
            .replace("{snapshot}", "before")
            .replace("{migration}", self.migration(project))
            .replace("{batch}", self.batch(project))
            .replace("{alert}", self.alert(project))
            .replace("{project}", project)
            .replace("{node}", "node-01")
            .replace("{member}", "1")
            .replace("{principal}", "admin")
            .replace("{binding}", ID)
            // Of an API key or an annotation.
            .replace("{key}", ID)
            .replace("{region}", "eu")
            .replace("{network}", "office")
            .replace("{secret}", "password")
            .replace("{period}", "2026-11")
    }

    /// The migration of a project; of the first one if it has none.
    pub fn migration(&self, project: &str) -> &str {
        &self.migrations[usize::from(project == "other")]
    }

    /// The batch of a project; of the first one if it has none.
    pub fn batch(&self, project: &str) -> &str {
        &self.batches[usize::from(project == "other")]
    }

    /// The alert of a project, or of `fleet`.
    pub fn alert(&self, project: &str) -> &str {
        let number = ["own", "other", "fleet"].iter().position(|name| *name == project).unwrap();
        &self.alerts[number]
    }

    /// Everybody who asks, in the order of the table.
    pub async fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        for (scope, letters) in [(None, "VOAUB"), (Some("own"), "voaub")] {
            for (role, letter) in ROLES.into_iter().zip(letters.chars()) {
                let name = format!("{role}-{}", scope.unwrap_or("fleet"));
                self.principal(&name, "operator").await;
                self.bind(&name, json!({ "role": role, "project": scope })).await;
                columns.push(self.by_certificate(letter, &name));
            }
        }
        self.principal("nothing", "operator").await;
        columns.push(self.by_certificate('N', "nothing"));
        self.principal("denied", "operator").await;
        self.bind("denied", json!({ "role": "admin" })).await;
        let denied = json!({ "permission": "*", "project": "own", "effect": "deny" });
        self.bind("denied", denied).await;
        columns.push(self.by_certificate('D', "denied"));
        self.principal("robot", "service").await;
        self.bind("robot", json!({ "role": "operator", "project": "own" })).await;
        let key = self.key("robot").await["key"].as_str().unwrap().to_owned();
        let client = self.member.anonymous();
        columns.push(Column { letter: 'K', client, key: Some(key) });
        columns.push(Column { letter: 'X', client: self.member.anonymous(), key: None });
        let roles = [(Role::Agent, 'G'), (Role::Coordinator, 'C'), (Role::Partner, 'P')];
        for (role, letter) in roles {
            columns.push(Column { letter, client: self.member.client(role), key: None });
        }
        columns
    }

    fn by_certificate(&self, letter: char, name: &str) -> Column {
        Column { letter, client: self.member.client_named(Role::Operator, name), key: None }
    }

    pub async fn principal(&self, name: &str, kind: &str) {
        post(&self.admin, "principals", json!({ "name": name, "kind": kind })).await;
    }

    pub async fn bind(&self, principal: &str, mut binding: Value) -> Value {
        binding["principal"] = principal.into();
        post(&self.admin, "bindings", binding).await
    }

    pub async fn key(&self, principal: &str) -> Value {
        post(&self.admin, "api-keys", json!({ "principal": principal, "name": "a test" })).await
    }
}

fn pair(list: Vec<String>) -> [String; 2] {
    list.try_into().unwrap()
}

/// Keeps a secret, as soon as the cluster has a key for it.
pub async fn keep_secret(client: &Https, path: &str, value: &str) -> Value {
    let body = json!({ "value": value }).to_string();
    until("the cluster has a key for secrets", async || {
        let answer = client.put(path, &body).await;
        (answer.status != 503).then_some(answer).map(|answer| {
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()
        })
    })
    .await
}

/// Makes something that can be made.
pub async fn post(client: &Https, path: &str, body: Value) -> Value {
    let answer = client.post(&format!("/api/v1/{path}"), &body.to_string()).await;
    assert!((200..300).contains(&answer.status), "{path} {body}: {answer:?}");
    answer.json()
}
