//! Projects, principals, what they may do, and their API keys.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use novacron_protocol::access::{AccessRole, BindingEffect};
use novacron_protocol::api::{PrincipalChange, PrincipalCreate, PrincipalState, ProjectChange};
use novacron_protocol::project::ProjectState;
use novacron_sdk::Client;

use crate::args::{KeyCommand, KeyCreate, PrincipalCommand, ProjectCommand, RoleCommand};
use crate::failure::Failure;
use crate::output::{Printer, RoleWords, notice};

/// `novacron project`.
///
/// # Errors
/// Why it did not work.
pub fn project(command: &ProjectCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    let set_state = |project: &str, state| {
        let change = ProjectChange { state: Some(state), ..ProjectChange::default() };
        printer.one(&client.project_change(project, &change)?)
    };
    match command {
        ProjectCommand::List => printer.list(&client.projects()?, "no projects"),
        ProjectCommand::Show { project } => printer.one(&client.project(project)?),
        ProjectCommand::Create(create) => printer.one(&client.project_create(&create.request())?),
        ProjectCommand::Set(set) => {
            let is_said = set.residency.is_said();
            let residency = is_said.then(|| client.project(&set.project)).transpose()?;
            let request = set.request(residency.map(|project| project.residency));
            printer.one(&client.project_change(&set.project, &request)?)
        }
        ProjectCommand::Budget { project, amount } => {
            printer.one(&client.project_budget(project, amount.0)?)
        }
        ProjectCommand::Suspend { project } => set_state(project, ProjectState::Suspended),
        ProjectCommand::Resume { project } => set_state(project, ProjectState::Active),
        ProjectCommand::Delete { project } => {
            client.project_delete(project)?;
            notice(&format!("project {project} is deleted"));
            Ok(())
        }
    }
}

/// `novacron principal`.
///
/// # Errors
/// Why it did not work.
pub fn principal(
    command: &PrincipalCommand,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    let set_state = |principal: &str, state| {
        let change = PrincipalChange { state: Some(state), ..PrincipalChange::default() };
        printer.one(&client.principal_change(principal, &change)?)
    };
    match command {
        PrincipalCommand::List => printer.list(&client.principals()?, "no principals"),
        PrincipalCommand::Show { principal } => printer.one(&client.principal(principal)?),
        PrincipalCommand::Create { name, kind, display_name } => {
            let display_name = display_name.clone().unwrap_or_default();
            let create = PrincipalCreate { name: name.clone(), kind: (*kind).into(), display_name };
            printer.one(&client.principal_create(&create)?)
        }
        PrincipalCommand::Disable { principal } => set_state(principal, PrincipalState::Disabled),
        PrincipalCommand::Enable { principal } => set_state(principal, PrincipalState::Active),
        PrincipalCommand::Delete { principal } => {
            client.principal_delete(principal)?;
            notice(&format!("principal {principal} is deleted, with its bindings and API keys"));
            Ok(())
        }
    }
}

/// `novacron role`; `connect` makes the client of those that need one.
///
/// # Errors
/// Why it did not work.
pub fn role(
    command: &RoleCommand,
    connect: impl FnOnce() -> Result<Client, Failure>,
    printer: Printer,
) -> Result<(), Failure> {
    match command {
        RoleCommand::List { principal } => {
            printer.list(&connect()?.bindings(principal.as_deref())?, "no bindings")
        }
        RoleCommand::Bind(bind) => {
            printer.one(&connect()?.bind(&bind.request(BindingEffect::Allow))?)
        }
        RoleCommand::Deny(bind) => {
            printer.one(&connect()?.bind(&bind.request(BindingEffect::Deny))?)
        }
        RoleCommand::Unbind { binding } => {
            connect()?.unbind(*binding)?;
            notice(&format!("binding {binding} is gone"));
            Ok(())
        }
        RoleCommand::Words => printer.list(&AccessRole::ALL.map(RoleWords::of), "no roles"),
    }
}

/// `novacron key`.
///
/// # Errors
/// Why it did not work.
pub fn key(command: &KeyCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        KeyCommand::List { principal } => {
            printer.list(&client.api_keys(principal.as_deref())?, "no API keys")
        }
        KeyCommand::Create(create) => create_key(create, client, printer),
        KeyCommand::Revoke { key } => {
            client.api_key_revoke(*key)?;
            notice(&format!("API key {key} is revoked"));
            Ok(())
        }
    }
}

fn create_key(create: &KeyCreate, client: &Client, printer: Printer) -> Result<(), Failure> {
    let Some(path) = &create.out else {
        printer.one(&client.api_key_create(&create.request())?)?;
        notice("the key is not shown again; `novacron --api-key-file FILE` uses it");
        return Ok(());
    };
    // The file first: a key that nobody could keep must not be made.
    let mut file = secret_file(path)?;
    let made = client.api_key_create(&create.request())?;
    let written = writeln!(file, "{}", made.key).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::io(path.display(), &error))?;
    printer.one(&made.view)
}

/// A new file that only its owner can read.
fn secret_file(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| Failure::io(path.display(), &error))
}
