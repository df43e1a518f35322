//! Whether an agent is welcome. Pure: what its certificate and its hello say.

use novacron_protocol::effect::{Hello, MachineReport};
use novacron_protocol::ids::Incarnation;
use novacron_protocol::limits::{
    self, LABEL_BYTES_MAX, LABELS_MAX, MACHINES_PER_NODE_MAX, PATH_BYTES_MAX,
};
use novacron_protocol::node::NodeFacts;
use novacron_protocol::version::{MINOR_RANGE, VersionMismatch, agree};

/// Bytes of a reason in an inventory: 4,096 machines with one each are 1 MiB of a command.
const INVENTORY_REASON_BYTES_MAX: usize = 256;

/// Why an agent is not welcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// It speaks another version.
    #[error(transparent)]
    Version(#[from] VersionMismatch),
    /// It has met coordinators of a later life of the cluster than this one's.
    #[error(
        "this coordinator is of life {own} of the cluster, and the node has met coordinators of life {met}: the \
         cluster was restored from a backup, and this coordinator must not run any more"
    )]
    LaterLife {
        /// This coordinator's.
        own: Incarnation,
        /// The one that the node has met.
        met: Incarnation,
    },
    /// It says that it is another than its certificate says.
    #[error("the certificate is of node `{certified}`, the hello of node `{claimed}`")]
    OtherNode {
        /// The name in the certificate.
        certified: String,
        /// The name in the hello.
        claimed: String,
    },
    /// Something in the hello is too large.
    #[error("the hello has {what} beyond its limit of {limit}")]
    TooMuch {
        /// What.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

/// The minor version to speak with an agent, if it is welcome.
///
/// # Errors
/// [`Unwelcome`].
pub fn welcome(certified: &str, own: Incarnation, hello: &Hello) -> Result<u16, Unwelcome> {
    if hello.node.as_str() != certified {
        let (certified, claimed) = (certified.to_owned(), hello.node.to_string());
        return Err(Unwelcome::OtherNode { certified, claimed });
    }
    if hello.incarnation > own {
        return Err(Unwelcome::LaterLife { own, met: hello.incarnation });
    }
    check_facts(&hello.facts)?;
    bound("machines", hello.machines.len(), MACHINES_PER_NODE_MAX)?;
    Ok(agree(MINOR_RANGE, hello.versions)?)
}

fn check_facts(facts: &NodeFacts) -> Result<(), Unwelcome> {
    let texts = [
        ("a migration address", &facts.migration_address),
        ("an agent version", &facts.agent_version),
        ("a QEMU version", &facts.qemu_version),
        ("a reason for its accelerator", &facts.accelerator_reason),
    ];
    texts.into_iter().try_for_each(|(what, text)| bound(what, text.len(), PATH_BYTES_MAX))?;
    bound("labels", facts.labels.len(), LABELS_MAX)?;
    facts
        .labels
        .iter()
        .try_for_each(|(key, value)| bound("a label", key.len().max(value.len()), LABEL_BYTES_MAX))
}

fn bound(what: &'static str, found: usize, limit: usize) -> Result<(), Unwelcome> {
    if found <= limit { Ok(()) } else { Err(Unwelcome::TooMuch { what, limit }) }
}

/// The inventory with its reasons cut, so that the largest one fits a command.
pub fn bounded_inventory(machines: Vec<MachineReport>) -> Vec<MachineReport> {
    let cut = |mut report: MachineReport| {
        report.reason.truncate(limits::cut(&report.reason, INVENTORY_REASON_BYTES_MAX).len());
        report
    };
    machines.into_iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{facts, held, name};
    use novacron_protocol::effect::ObservedState;
    use novacron_protocol::ids::VmId;
    use novacron_protocol::version::MinorRange;

    fn welcome(certified: &str, hello: &Hello) -> Result<u16, Unwelcome> {
        super::welcome(certified, Incarnation(1), hello)
    }

    fn hello() -> Hello {
        Hello {
            versions: MINOR_RANGE,
            node: name("node-01"),
            incarnation: Incarnation(1),
            facts: facts(8),
            machines: Vec::new(),
        }
    }

    #[test]
    fn the_certificate_says_who_it_is() {
        assert_eq!(welcome("node-01", &hello()), Ok(MINOR_RANGE.newest));
        let older = Hello { versions: MinorRange { oldest: 0, newest: 0 }, ..hello() };
        assert_eq!(welcome("node-01", &older), Ok(0));
        assert!(matches!(welcome("node-02", &hello()), Err(Unwelcome::OtherNode { .. })));
    }

    #[test]
    fn a_node_that_has_met_a_later_life_is_sent_away() {
        let own = |own| super::welcome("node-01", Incarnation(own), &hello());
        assert_eq!((own(1), own(2)), (Ok(MINOR_RANGE.newest), Ok(MINOR_RANGE.newest)));
        assert!(matches!(own(0), Err(Unwelcome::LaterLife { .. })));
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let mut versions = hello();
        versions.versions = MinorRange { oldest: 9, newest: 9 };
        assert!(matches!(welcome("node-01", &versions), Err(Unwelcome::Version(_))));
        let mut address = hello();
        address.facts.migration_address = "x".repeat(PATH_BYTES_MAX + 1);
        assert!(matches!(welcome("node-01", &address), Err(Unwelcome::TooMuch { .. })));
        let machine = held(
            VmId("00000000-0000-0000-0000-000000000001".parse().unwrap()),
            1,
            ObservedState::Running,
        );
        let mut machines = hello();
        machines.machines = vec![machine; MACHINES_PER_NODE_MAX + 1];
        assert!(matches!(welcome("node-01", &machines), Err(Unwelcome::TooMuch { .. })));
    }

    #[test]
    fn the_largest_inventory_fits_a_command() {
        use crate::state::command::OpenSession;
        use crate::state::node::SessionId;
        use crate::state::{Body, Command};
        let mut machine = held(
            VmId("00000000-0000-0000-0000-000000000001".parse().unwrap()),
            1,
            ObservedState::Failed,
        );
        machine.reason = "é".repeat(2048);
        let machines = bounded_inventory(vec![machine; MACHINES_PER_NODE_MAX]);
        let open =
            OpenSession { node: name("node-01"), session: SessionId(1), facts: facts(8), machines };
        let at = novacron_protocol::time::Timestamp::default();
        let request = crate::clock::new_request(at);
        let command = Command::of_cluster(request, at, Body::OpenSession(open));
        assert!(novacron_protocol::wire::codec::encode(&command).is_ok());
    }
}
