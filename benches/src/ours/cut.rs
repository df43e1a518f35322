//! A link between the two nodes that is away for a while, in the middle of a migration.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cluster::{Cluster, SOURCE, TARGET};
use crate::interruption::Interruption;
use crate::network::Wire;

/// So much has gone over the wire when it is cut: memory is being copied, and most of it is still to come.
const CUT_AT_BYTES: u64 = 30_000_000;
/// How long that may take.
const COPY_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the wire, which cost some milliseconds of a processor.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long taking a link down or up may take.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// The link and for how long it is to be away.
#[derive(Debug)]
pub struct Cut<'a> {
    pub cluster: &'a Cluster<'a>,
    pub wire: &'a Wire,
    pub away: Duration,
    pub interruption: &'a Interruption,
}

impl Cut<'_> {
    /// Cuts the link while `migrate` is at work.
    ///
    /// # Errors
    /// What `migrate` says, or that the link was not cut.
    pub fn during<T>(&self, migrate: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun_bytes = self.wire.bytes()?.shaped;
        thread::scope(|scope| {
            let cut = scope.spawn(|| self.cut(begun_bytes));
            let migrated = migrate();
            let cut = cut.join().ok().context("what cuts the link has failed")?;
            let migrated = migrated?;
            cut.map(|()| migrated)
        })
    }

    fn cut(&self, begun_bytes: u64) -> Result<()> {
        let what = "memory is being copied";
        self.interruption.wait(what, COPY_PATIENCE, LOOK_AGAIN, || {
            Ok((self.wire.bytes()?.shaped >= begun_bytes + CUT_AT_BYTES).then_some(()))
        })?;
        self.set_link("--down")?;
        let away = self.interruption.pause(self.away);
        self.set_link("--up")?;
        away
    }

    fn set_link(&self, state: &str) -> Result<()> {
        let cli = self.cluster.cli();
        let directory = cli.directory().to_string_lossy();
        let words = ["dev", "link", SOURCE, TARGET, state, "--dir", &directory];
        cli.run(&words, "", LINK_PATIENCE).map(drop)
    }
}
