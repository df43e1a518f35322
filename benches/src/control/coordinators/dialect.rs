//! The API of NovaCron, as an operator's client uses it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use novacron_protocol::api::ClusterView;
use serde_json::json;

use crate::control::dialect::{Dialect, Key, value};
use crate::control::link::{Answer, Ask};

/// JSON over HTTPS.
#[derive(Debug, Default)]
pub struct Coordinators {
    /// Machines that were ordered: each needs a name that no other has.
    ordered: AtomicU64,
}

impl Dialect for Coordinators {
    /// A machine that no node can take: it is made, and stays where it is. Its labels are the value.
    fn write(&self, key: Key) -> Ask {
        let value = value(key);
        let name = format!("bench-{}", self.ordered.fetch_add(1, Ordering::Relaxed));
        let (one, other) = value.split_at(value.len() / 2);
        let body = json!({
            "name": name, "start": false, "labels": { "one": one, "other": other },
        });
        ask(Method::POST, "/api/v1/vms", &body.to_string())
    }

    fn read(&self, key: Key) -> Ask {
        ask(Method::GET, &format!("/api/v1/vms/bench-{}", key.client), "")
    }

    fn check_write(&self, answer: &Answer) -> Result<()> {
        check(answer)
    }

    fn check_read(&self, answer: &Answer) -> Result<()> {
        check(answer)
    }

    fn status(&self) -> Ask {
        ask(Method::GET, "/api/v1/cluster", "")
    }

    fn leads(&self, address: SocketAddr, answer: &Answer) -> Result<Option<bool>> {
        let view = cluster(answer)?;
        let own = view.members.iter().find(|member| member.api_address == address.to_string());
        let own = own.context("the member is not one")?.id;
        Ok(view.leader.map(|leader| leader == own))
    }
}

/// The coordinators, in an answer.
pub fn cluster(answer: &Answer) -> Result<ClusterView> {
    check(answer)?;
    serde_json::from_slice(&answer.body).context("the answer is no cluster")
}

/// Anything of the API.
pub fn ask(method: Method, path: &str, body: &str) -> Ask {
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ask { method, path: path.to_owned(), headers, body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// That an answer is no problem.
pub fn check(answer: &Answer) -> Result<()> {
    let is_fine = (200..300).contains(&answer.status);
    ensure!(is_fine, "HTTP {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(())
}
