//! Whether a migration may begin, and if not, which check fails. The same rules are applied again when the command
//! is applied; here they cost no log entry. A client's request is not held back by this: sent again, it has to
//! get its first answer, and only the log knows that.

use crate::state::migration::Asked;
use crate::state::{Fleet, Refusal};

/// The first check that fails, if one does: the machine is there and in the right state, free to move, the target
/// is another node, is known, answers, matches the selector, has room, and has cleared up an earlier copy.
///
/// # Errors
/// What fails and what would be right.
pub fn validate(fleet: &Fleet, asked: Asked<'_>) -> Result<(), Refusal> {
    fleet.check_migration(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{Scene, facts, name};
    use novacron_protocol::migration::{MigrationMode, MigrationOptions};
    use novacron_protocol::node::Accelerator;

    #[test]
    fn the_failing_check_is_named() {
        let mut scene = Scene::new();
        scene.join("node-01", 8);
        let vm = scene.running("web", "node-01");
        let why = |scene: &Scene, target: &str| {
            let target = name(target);
            let (mode, options) = (MigrationMode::Live, MigrationOptions::default());
            let asked = Asked { vm, target: &target, mode, options };
            validate(&scene.fleet, asked).err().map(|refusal| refusal.to_string())
        };
        assert_eq!(why(&scene, "node-02").unwrap(), "there is no node `node-02`");
        let mut bare = facts(8);
        bare.qemu_version.clear();
        scene.hello("node-02", bare, vec![]);
        assert!(why(&scene, "node-02").unwrap().ends_with("it has no QEMU that can be used"));
        scene.join("node-02", 1);
        assert!(why(&scene, "node-02").unwrap().ends_with("2 GiB of memory needed, 1 GiB free"));
        let mut other = facts(8);
        other.accelerator = Accelerator::Kvm;
        scene.hello("node-02", other, vec![]);
        assert!(why(&scene, "node-02").unwrap().starts_with("accelerator: node `node-01`"));
        scene.join("node-02", 8);
        assert_eq!(why(&scene, "node-02"), None);
    }
}
