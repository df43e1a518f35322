//! How coordinators are: each says so of itself, and one puts the answers together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use novacron_protocol::api::{ClusterStatus, MemberReport, MemberStatus, MemberView};
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::fitness::Fitness;
use crate::history::History;
use crate::raft::Raft;
use crate::secrets::keyring::Keyring;
use crate::state::Fleet;
use crate::state::formats::Formats;
use crate::view::FleetCell;

/// How long a member may take to say how it is.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Entries that a coordinator may be behind before somebody should look: what is written in some seconds at full pace.
pub const LAG_ENTRIES_MAX: u64 = 10_000;

/// What a member needs to speak of itself. Cheap to clone.
#[derive(Clone)]
pub struct OwnStatus {
    raft: Raft,
    history: History,
    cell: FleetCell,
    data_directory: Option<PathBuf>,
    keyring: Option<Keyring>,
    formats: Formats,
    fitness: Option<(Fitness, Clock)>,
}

impl OwnStatus {
    /// Of a member that has no data directory and no keys.
    pub fn new(raft: Raft, history: History, cell: FleetCell) -> Self {
        let formats = Formats::default();
        Self { raft, history, cell, data_directory: None, keyring: None, formats, fitness: None }
    }

    /// The same, and it can say how full the disk of its data directory is, and which keys of secrets it misses.
    #[must_use]
    pub fn on_disk(self, directory: PathBuf, keyring: Keyring) -> Self {
        Self { data_directory: Some(directory), keyring: Some(keyring), ..self }
    }

    /// The same, of a program that understands other formats than this build.
    #[must_use]
    pub fn speaking(self, formats: Formats) -> Self {
        Self { formats, ..self }
    }

    /// The same, of a member that is watched.
    #[must_use]
    pub fn watched(self, fitness: Fitness, clock: Clock) -> Self {
        Self { fitness: Some((fitness, clock)), ..self }
    }

    /// What this member says of itself.
    pub async fn report(&self) -> MemberReport {
        let metrics = self.raft.metrics().borrow().clone();
        let (disk_bytes, disk_free_bytes) = match &self.data_directory {
            Some(directory) => disk(directory.clone()).await,
            None => (None, None),
        };
        // An archive that cannot be listed has been said so in the log, by whoever fetches what is missing.
        let stock = self.history.stock().ok();
        let stock = stock.as_ref();
        MemberReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            formats_oldest: self.formats.oldest.0,
            formats_newest: self.formats.newest.0,
            term: metrics.current_term,
            log_last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            snapshot: metrics.snapshot.map_or(0, |snapshot| snapshot.index),
            archive_missing: stock.map_or(u64::MAX, |stock| stock.missing.len() as u64),
            archive_wanted: stock.map(|stock| stock.wanted),
            archive_files: stock.map(|stock| stock.files),
            disk_bytes,
            disk_free_bytes,
            alerts: self.alerts(),
        }
    }

    fn alerts(&self) -> Vec<String> {
        let fitness = self.fitness.iter();
        let unfit = fitness.flat_map(|(fitness, clock)| fitness.alerts(clock.now()));
        unfit.chain(self.missing_keys()).collect()
    }

    fn missing_keys(&self) -> Option<String> {
        let wanted = self.cell.look(Fleet::secret_keys).wanted();
        let missing = self.keyring.as_ref()?.missing(wanted);
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        let text = || format!("keys of secrets are missing here: {}", missing.join(", "));
        (!missing.is_empty()).then(text)
    }
}

/// Bytes of the disk and bytes that are free for us. A disk that hangs must not hang whoever asks.
async fn disk(directory: PathBuf) -> (Option<u64>, Option<u64>) {
    let asked = spawn_blocking(move || room(&directory));
    match tokio::time::timeout(ANSWER_TIMEOUT / 2, asked).await {
        Ok(Ok(Some((bytes, free_bytes)))) => (Some(bytes), Some(free_bytes)),
        _ => (None, None),
    }
}

/// Bytes of the disk that a directory is on, and those that are free for us.
pub(crate) fn room(directory: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_blocks), bytes(found.f_bavail)))
}

/// A member that answered.
pub(crate) fn answered(member: MemberView, report: MemberReport) -> MemberStatus {
    let report = Some(report);
    MemberStatus { member, reachable: true, problem: None, lag_entries: None, report }
}

/// A member that did not, and why.
pub(crate) fn silent(member: MemberView, problem: String) -> MemberStatus {
    let problem = Some(problem);
    MemberStatus { member, reachable: false, problem, lag_entries: None, report: None }
}

/// How far each is behind the longest log. They were asked at moments of their own, so a busy member may seem a
/// little behind.
pub(crate) fn fill_in_lags(members: &mut [MemberStatus]) {
    let reports = members.iter().filter_map(|member| member.report.as_ref());
    let last = reports.map(|report| report.log_last).max().unwrap_or(0);
    for member in members {
        let applied = member.report.as_ref().map(|report| report.applied);
        member.lag_entries = applied.map(|applied| last.saturating_sub(applied));
    }
}

/// Whether a cluster of several cannot lose one more. One of one never could.
pub(crate) fn lacks_a_spare(status: &ClusterStatus) -> bool {
    let voters = status.members.iter().filter(|member| member.member.role.votes()).count();
    voters > 1 && !status.tolerates_a_loss
}

/// Whether a quorum of voters is left if one of those that answer is lost.
pub(crate) fn tolerates_a_loss(members: &[MemberStatus]) -> bool {
    let voters = members.iter().filter(|member| member.member.role.votes());
    let reachable = voters.clone().filter(|member| member.reachable).count();
    reachable > voters.count() / 2 + 1
}

#[cfg(test)]
mod tests {
    use novacron_protocol::api::MemberRole;
    use novacron_protocol::ids::MemberId;

    use super::*;

    fn member(id: u64, role: MemberRole, applied: Option<u64>) -> MemberStatus {
        let name = format!("c{id}");
        let address = String::new();
        let (peer_address, api_address) = (address.clone(), address);
        let member = MemberView { id: MemberId(id), name, peer_address, api_address, role };
        let Some(applied) = applied else { return silent(member, "a test".to_owned()) };
        let report = MemberReport {
            version: String::new(),
            formats_oldest: 1,
            formats_newest: 1,
            term: 1,
            log_last: applied,
            applied,
            snapshot: 0,
            archive_missing: 0,
            archive_wanted: Some(0),
            archive_files: Some(0),
            disk_bytes: None,
            disk_free_bytes: None,
            alerts: Vec::new(),
        };
        answered(member, report)
    }

    #[test]
    fn one_loss_is_one_that_leaves_a_majority() {
        use MemberRole::{Leader, Learner, Voter};
        let status = |members: &[(MemberRole, bool)]| {
            let members = members.iter().map(|(role, is_up)| member(1, *role, is_up.then_some(1)));
            tolerates_a_loss(&members.collect::<Vec<_>>())
        };
        assert!(!status(&[(Leader, true)]));
        assert!(!status(&[(Leader, true), (Voter, true)]));
        assert!(status(&[(Leader, true), (Voter, true), (Voter, true)]));
        assert!(!status(&[(Leader, true), (Voter, true), (Voter, false)]));
        assert!(!status(&[(Leader, true), (Voter, true), (Learner, true)]));
        assert!(status(&[
            (Leader, true),
            (Voter, true),
            (Voter, true),
            (Voter, false),
            (Voter, true)
        ]));
    }

    #[test]
    fn lags_are_behind_the_longest_log() {
        use MemberRole::{Leader, Voter};
        let mut members =
            [member(1, Leader, Some(10)), member(2, Voter, Some(7)), member(3, Voter, None)];
        fill_in_lags(&mut members);
        assert_eq!(members.map(|member| member.lag_entries), [Some(0), Some(3), None]);
    }
}
