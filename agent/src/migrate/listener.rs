//! Sources that connect to this agent: each goes to the migration that it talks about, or gets the answer of the record.

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::ids::{MigrationId, VmId};
use novacron_protocol::session::handover::Verdict;
use novacron_protocol::session::message::{SourceMessage, TargetMessage};
use novacron_transport::connection::CloseCode;
use novacron_transport::{Acceptor, Connection};

use super::context::{Context, TargetCommand};
use super::control::{Control, ControlError};
use crate::reason::reason;
use crate::records::RecordsError;

/// How long a connection may be silent before it says what it is about.
const FIRST_MESSAGE_PATIENCE: Duration = Duration::from_secs(10);

/// How long the answer may take to be read.
const FAREWELL: Duration = Duration::from_secs(5);

/// Takes connections until the endpoint is closed.
pub(super) async fn run(context: Arc<Context>, mut acceptor: Acceptor) {
    while let Some(connection) = acceptor.accept().await {
        let context = Arc::clone(&context);
        let peer = connection.peer().clone();
        context.tasks.clone().spawn(async move {
            let served = tokio::time::timeout(FIRST_MESSAGE_PATIENCE, greet(&connection)).await;
            match served {
                Ok(Ok((control, message))) => dispatch(&context, control, message).await,
                Ok(Err(error)) => tracing::info!(%peer, reason = reason(&error), "no migration"),
                Err(_) => connection.close(CloseCode::TimedOut, "no first message"),
            }
        });
    }
}

async fn greet(connection: &Connection) -> Result<(Control, SourceMessage), ControlError> {
    let mut control = Control::accept(connection.clone()).await?;
    let message = control.hear().await?;
    Ok((control, message))
}

async fn dispatch(context: &Arc<Context>, control: Control, message: SourceMessage) {
    let migration = match &message {
        SourceMessage::Offer(offer) => offer.migration,
        SourceMessage::Ask { migration, .. } | SourceMessage::Resume { migration, .. } => {
            *migration
        }
        _ => return control.connection().refuse_message("an offer or a question comes first"),
    };
    let running = context.targets().get(&migration).cloned();
    let unclaimed = match running {
        Some(target) => {
            let command = TargetCommand::Connected(Box::new((control, message)));
            match target.send(command).await {
                Ok(()) => None,
                Err(refused) => Some(refused.0),
            }
        }
        None => Some(TargetCommand::Connected(Box::new((control, message)))),
    };
    if let Some(TargetCommand::Connected(connected)) = unclaimed {
        let (control, message) = *connected;
        answer(context, control, message).await;
    }
}

/// The migration is not under way here.
async fn answer(context: &Context, control: Control, message: SourceMessage) {
    let answer = match message {
        SourceMessage::Ask { vm, migration } => match verdict(context, vm, migration).await {
            Ok(verdict) => TargetMessage::Verdict(verdict),
            Err(error) => {
                tracing::error!(%migration, reason = reason(&error), "cannot say what became of it");
                return control.connection().close(CloseCode::Overloaded, "records unavailable");
            }
        },
        _ => {
            let reason = "this node does not expect the machine".to_owned();
            TargetMessage::Failed { reason }
        }
    };
    say_last(control, &answer).await;
}

/// Turns somebody away without waiting for it.
pub(super) fn dismiss(control: Control, reason: &str) {
    answer_last(control, TargetMessage::Failed { reason: reason.to_owned() });
}

/// Says one thing, after which the source closes, without waiting for it.
pub(super) fn answer_last(control: Control, message: TargetMessage) {
    tokio::spawn(async move { say_last(control, &message).await });
}

/// Says one thing and gives the other side the time to read it.
async fn say_last(mut control: Control, message: &TargetMessage) {
    let last = async {
        if control.say(message).await.is_ok() {
            control.connection().closed().await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL, last).await;
}

/// What was decided; a migration that was never heard of is refused here and now, durably, so that the answer stays
/// true.
pub(super) async fn verdict(
    context: &Context,
    vm: VmId,
    migration: MigrationId,
) -> Result<Verdict, RecordsError> {
    if let Some(verdict) = context.machines.verdict(vm, migration).await?
        && verdict != Verdict::Waiting
    {
        return Ok(verdict);
    }
    context.machines.refuse(migration).await?;
    Ok(Verdict::Refused)
}
