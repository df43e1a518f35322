//! Guests that were booted from the same files move to the same node: what they have in common travels once, together
//! or one after the other, and never from one tenant to another.
#![allow(missing_docs)]

use anyhow::{Result, ensure};
use novacron_protocol::migration::MigrationStatus;
use novacron_sdk::api::MigrationView;
use novacron_tests::fleet::{Fleet, Guest, NODES, PATIENCE};

#[test]
fn what_clones_have_in_common_travels_once_within_a_tenant() {
    Fleet::run_remembering("--test clones", |fleet| {
        let alone = fleet.boot_for("other", "other-01", NODES[0])?;
        let first = fleet.boot_for("web", "web-01", NODES[0])?;
        let second = fleet.boot_for("web", "web-02", NODES[0])?;
        let third = fleet.boot_for("web", "web-03", NODES[0])?;

        let alone_pages = finish(&alone, &alone.migrate(NODES[1])?)?;
        // Together, behind one of another tenant: the two of them send little more than it did.
        let orders = [first.migrate(NODES[1])?, second.migrate(NODES[1])?];
        let first_pages = finish(&first, &orders[0])?;
        let second_pages = finish(&second, &orders[1])?;
        let together_pages = first_pages + second_pages;
        ensure!(
            together_pages > alone_pages,
            "{together_pages} of {alone_pages}: a tenant's pages"
        );
        ensure!(together_pages * 10 < alone_pages * 16, "{together_pages} of {alone_pages} each");
        // And one after them.
        let third_pages = finish(&third, &third.migrate(NODES[1])?)?;
        ensure!(third_pages * 10 < alone_pages * 6, "{third_pages} of {alone_pages}");
        [alone, first, second, third].iter().try_for_each(Guest::check_it_goes_on)
    });
}

fn finish(guest: &Guest<'_>, order: &MigrationView) -> Result<u64> {
    let ended = guest.fleet.client().migration_wait(order.migration_id, PATIENCE, |_| ())?;
    guest.fleet.note(&format!("{}: {ended:?}", guest.name));
    ensure!(ended.status == MigrationStatus::Completed, "{ended:#?}");
    Ok(ended.pages_sent)
}
