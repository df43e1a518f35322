//! The API of NovaCron, as an operator's client uses it.

use std::net::SocketAddr;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use novacron_protocol::api::{AnnotationView, AnnotationWrite, ClusterView};
use novacron_protocol::ids::VmId;
use novacron_protocol::limits::ANNOTATIONS_MAX;

use crate::control::dialect::{CLIENTS_MAX, Dialect, KEYS_PER_CLIENT, Key, VALUE_BYTES, value};
use crate::control::link::{Answer, Ask};

/// Clients that write to one machine: together they fill the annotations that it may have.
const CLIENTS_PER_MACHINE: usize = ANNOTATIONS_MAX / KEYS_PER_CLIENT as usize;

/// Machines that are written to. No node is there that could take them, so nothing else happens to them.
pub const MACHINES: usize = CLIENTS_MAX / CLIENTS_PER_MACHINE;

/// JSON over HTTPS. Values are annotations of machines.
#[derive(Debug, Default)]
pub struct Coordinators {
    /// Once they were made.
    pub machines: OnceLock<Vec<VmId>>,
}

impl Coordinators {
    fn path(&self, key: Key) -> String {
        let machines = self.machines.get().map_or(&[][..], Vec::as_slice);
        let machine = machines.get(key.client / CLIENTS_PER_MACHINE);
        // Without one it is nobody's, and refused.
        let machine = machine.map_or_else(|| "none".to_owned(), VmId::to_string);
        format!("/api/v1/vms/{machine}/annotations/{}-{}", key.client, key.place())
    }
}

impl Dialect for Coordinators {
    fn write(&self, key: Key) -> Ask {
        let body = AnnotationWrite { value: value(key) };
        // Only texts: it can be written.
        let body = serde_json::to_string(&body).unwrap_or_default();
        ask(Method::PUT, &self.path(key), &body)
    }

    fn read(&self, key: Key) -> Ask {
        ask(Method::GET, &self.path(key), "")
    }

    fn check_write(&self, answer: &Answer) -> Result<()> {
        check(answer)
    }

    fn check_read(&self, answer: &Answer) -> Result<()> {
        check(answer)?;
        let view: AnnotationView = serde_json::from_slice(&answer.body)?;
        ensure!(view.value.len() == VALUE_BYTES, "the value is another");
        Ok(())
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
