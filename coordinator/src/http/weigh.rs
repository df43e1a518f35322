//! How large the items of lists are, so that no page is larger than what is kept for a reader.

use novacron_protocol::api::{
    AlertView, ApiKeyView, BindingView, Event, MigrationView, NodeView, PrincipalView, ProjectView,
    ResidencyViolationView, VmView, WindowView,
};
use novacron_protocol::vm::Labels;

/// An item of a list without what clients may make long.
const ITEM_BYTES: usize = 1_024;

/// Something that has a size as JSON.
pub(super) trait Weigh {
    /// Bytes as JSON, roughly.
    fn weigh(&self) -> usize {
        ITEM_BYTES
    }
}

impl Weigh for VmView {
    fn weigh(&self) -> usize {
        let disks = self.disks.len() * ITEM_BYTES / 4;
        ITEM_BYTES + disks + bytes(&self.labels) + bytes(&self.node_selector)
    }
}

impl Weigh for NodeView {
    fn weigh(&self) -> usize {
        ITEM_BYTES + bytes(&self.labels)
    }
}

impl Weigh for ProjectView {
    fn weigh(&self) -> usize {
        ITEM_BYTES + bytes(&self.labels)
    }
}

impl Weigh for MigrationView {
    fn weigh(&self) -> usize {
        4 * ITEM_BYTES
    }
}

impl Weigh for WindowView {
    fn weigh(&self) -> usize {
        4 * ITEM_BYTES
    }
}

impl Weigh for AlertView {
    fn weigh(&self) -> usize {
        2 * ITEM_BYTES
    }
}

impl Weigh for ApiKeyView {}
impl Weigh for BindingView {}
impl Weigh for Event {}
impl Weigh for PrincipalView {}
impl Weigh for ResidencyViolationView {}

/// With quotes, colon and comma.
fn bytes(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len() + 6).sum()
}
