//! Nodes: list, show, drain.

use novacron_protocol::api::{NodeUndrain, NodeView};
use novacron_protocol::node::Scheduling;
use novacron_sdk::Client;

use crate::args::{NodeCommand, NodeDrain};
use crate::failure::{Exit, Failure};
use crate::output::{News, Printer, drain_line, notice};

/// `novacron node`.
///
/// # Errors
/// Why it did not work, or some machines could not leave a node.
pub fn run(command: &NodeCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        NodeCommand::List(list) => printer.list(
            &client.nodes_like(&list.filter())?,
            "there are no nodes; `novacron token create --role agent` lets one join",
        ),
        NodeCommand::Show { node } => printer.one(&client.node(node)?),
        NodeCommand::Drain(drain) => begin(drain, client, printer),
        NodeCommand::Undrain { node, cancel } => {
            printer.one(&client.node_undrain(node, &NodeUndrain { cancel: *cancel })?)
        }
    }
}

fn begin(drain: &NodeDrain, client: &Client, printer: Printer) -> Result<(), Failure> {
    let view = client.node_drain(&drain.node, &drain.request())?;
    if drain.wait.wait || drain.watch {
        return follow(drain, client, printer);
    }
    printer.one(&view)?;
    notice(&format!("see how far it is with `novacron node show {}`", drain.node));
    Ok(())
}

/// Follows the draining of a node until nothing moves any more, prints the node and fails if something is left.
fn follow(drain: &NodeDrain, client: &Client, printer: Printer) -> Result<(), Failure> {
    let mut news = News::new(drain.watch);
    let show = |view: &NodeView| news.say(drain_line(view));
    let view = client.drain_wait(&drain.node, drain.wait.timeout, show)?;
    printer.one(&view)?;
    match view.scheduling {
        Scheduling::Drained => Ok(()),
        Scheduling::Draining => Err(Failure::new(Exit::Failed, drain_line(&view))),
        Scheduling::Active => {
            let text = format!("node {} takes machines again: somebody asked for that", view.name);
            Err(Failure::new(Exit::Conflict, text))
        }
    }
}
