//! Serial consoles: bytes of the guest, and bytes for the guest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::VmId;
use novacron_protocol::vm::VmState;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Api;
use super::answer::{Done, OctetStream};
use super::body::{NoBody, Octets};
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use super::vms::{VmPath, find};
use crate::agents::Console;
use crate::auth::{Grant, Where};

/// Bytes that are typed at once.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the console that are passed on at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Until the next hop has what was typed.
const INPUT_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long a console is kept open behind what was typed. An agent ends a console that nobody reads, and what
/// it has not yet handed to the guest would be lost with it.
const LINGER: Duration = Duration::from_millis(500);

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/vms/{vm}/console", "readConsole", "Read a machine's serial console")
            .needs(Permission::VmConsole, Where::Machine)
            .refuses(&[Code::NotFound, Code::Conflict, Code::NodeUnreachable])
            .to(read),
        post(
            "/api/v1/vms/{vm}/console/input",
            "writeConsole",
            "Type at a machine's serial console",
        )
        .needs(Permission::VmConsole, Where::Machine)
        .refuses(&[Code::NotFound, Code::Conflict, Code::NodeUnreachable])
        .to(write),
    ]
}

/// Which bytes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConsoleQuery {
    /// The byte of the log to begin at; the first unless said, from now on if it is beyond the end.
    #[serde(default)]
    from: u64,
    /// Go on with what the guest writes from then on.
    #[serde(default)]
    follow: bool,
}

async fn read(call: Call<VmPath, ConsoleQuery, NoBody>) -> Result<OctetStream, Problem> {
    let text = call.path.vm.clone();
    let vm = call.read(move |fleet, sight| find(fleet, sight, &text).map(|vm| vm.id)).await??;
    let console = open(&call.api, vm, call.query.from, call.query.follow).await?;
    let (grant, changes) = (call.grant()?.clone(), call.api.changes());
    let output = Output { api: call.api, grant, changes, vm, console };
    Ok(OctetStream(Body::from_stream(stream::unfold(Some(output), Output::next))))
}

async fn open(api: &Api, vm: VmId, from: u64, follow: bool) -> Result<Console, Problem> {
    api.app.consoles.open(vm, from, follow).await.map_err(|error| error.to_problem())
}

/// What a guest writes, on its way to a client. Dropped with the client's connection, and the console with it.
struct Output {
    api: Arc<Api>,
    grant: Grant,
    changes: watch::Receiver<u64>,
    vm: VmId,
    console: Console,
}

impl Output {
    /// The next bytes. A console that breaks off ends with an error, so that the client does not take it for the
    /// end of the log.
    async fn next(output: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut output = output?;
        match output.chunk().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(output))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }

    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            tokio::select! {
                biased;
                () = self.api.stopping() => return Err(io::ErrorKind::ConnectionAborted.into()),
                changed = self.changes.changed() => {
                    changed.map_err(io::Error::other)?;
                    self.check_right()?;
                }
                // Cancel-safe: nothing is lost when something else comes first.
                chunk = self.console.receive.read_chunk(CHUNK_BYTES, true) => {
                    let chunk = chunk.map_err(io::Error::other)?;
                    return Ok(chunk.map(|chunk| chunk.bytes));
                }
            }
        }
    }

    /// Whoever lost the right to read reads no further.
    fn check_right(&self) -> io::Result<()> {
        let now = self.api.now();
        let may = self.api.glance(|fleet| {
            let project = fleet.project_of_vm(self.vm);
            let sight = self.grant.sight(fleet, now).ok();
            sight.zip(project).is_some_and(|(sight, project)| sight.may(project))
        });
        if may { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

async fn write(call: Call<VmPath, Nothing, Octets>) -> Result<Done, Problem> {
    let Octets(typed) = &call.body;
    if typed.len() > INPUT_BYTES_MAX {
        let detail = format!("at most {INPUT_BYTES_MAX} bytes are typed at once");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let vm = running(&call).await?;
    // Only a console that is followed takes input.
    let console = open(&call.api, vm, u64::MAX, true).await?;
    type_in(console, typed.clone()).await.map_err(|problem| {
        Problem::new(
            Code::OutcomeUnknown,
            format!("what was typed may not have arrived: {problem}"),
        )
    })?;
    Ok(Done)
}

async fn running<B>(call: &Call<VmPath, Nothing, B>) -> Result<VmId, Problem> {
    let text = call.path.vm.clone();
    let found =
        call.read(move |fleet, sight| find(fleet, sight, &text).map(|vm| (vm.id, vm.state())));
    match found.await?? {
        (vm, VmState::Running | VmState::Migrating | VmState::Starting | VmState::Stopping) => {
            Ok(vm)
        }
        (_, state) => {
            let detail = format!("the machine does not run, it is {state:?}").to_lowercase();
            Err(Problem::new(Code::Conflict, detail))
        }
    }
}

async fn type_in(mut console: Console, typed: Bytes) -> io::Result<()> {
    let arrive = async {
        console.send.write_chunk(typed).await?;
        console.send.finish()?;
        match console.send.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    };
    timeout(INPUT_TIMEOUT, arrive).await.map_err(io::Error::from).flatten()?;
    tokio::spawn(timeout(LINGER, async move {
        while let Ok(Some(_)) = console.receive.read_chunk(CHUNK_BYTES, true).await {}
    }));
    Ok(())
}
