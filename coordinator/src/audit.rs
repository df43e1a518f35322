//! Reading the audit log: the newest records of the tables, and the older ones in the archive.

use novacron_protocol::api::{AuditActor, AuditEntry, AuditVerdict};
use novacron_protocol::audit::{
    Chain, ChainHash, Fault, FaultAt, Known, Verifier, line, parse_line,
};

use crate::history::{History, HistoryError};
use crate::state::Fleet;
use crate::state::audit::{AuditHead, AuditNumber, AuditRow};
use crate::state::table::Table;
use crate::view::View;

/// Archived texts that one page may look through: some 100 MB of text. What a filter did not find in them is looked
/// for with the next cursor.
const SEGMENTS_PER_PAGE: usize = 16;

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A part of it is not at hand.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A part of it is not what was written.
    #[error("the audit log cannot be trusted: {0}")]
    Fault(#[from] FaultAt),
}

/// Which records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those of this actor: a name, or `cluster`.
    pub actor: Option<String>,
    /// Only this action, or all of a noun: `vm.create`, `vm`.
    pub action: Option<String>,
    /// Only those about the object with this id.
    pub object: Option<String>,
}

impl AuditFilter {
    /// Whether a record is one of those.
    pub fn lets_through(&self, entry: &AuditEntry) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|one| one == found);
        let object = entry.object.as_ref().and_then(|object| object.id.as_deref());
        let is_action = self.action.as_deref().is_none_or(|wanted| {
            let rest = entry.action.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        is(&self.actor, actor(entry)) && is_action && is(&self.object, object.unwrap_or_default())
    }
}

fn actor(entry: &AuditEntry) -> &str {
    match &entry.actor {
        AuditActor::Cluster => "cluster",
        AuditActor::Certificate { name, .. } | AuditActor::ApiKey { name, .. } => name,
        AuditActor::Presented { shown, .. } => shown,
    }
}

/// Records, newest first, and where to go on.
#[derive(Debug, Default, PartialEq)]
pub struct AuditPage {
    /// The records.
    pub entries: Vec<AuditEntry>,
    /// Look at records before this one next; nothing if that was the first.
    pub before: Option<u64>,
}

/// A part of the log.
#[derive(Debug, Clone)]
pub enum Part {
    /// In the archive.
    Archived {
        /// Its name there.
        name: String,
        /// Number of its first record.
        first: u64,
    },
    /// In the tables, as it was when somebody looked.
    Recent {
        /// Its records.
        rows: Table<AuditNumber, AuditRow>,
        /// Number of its first record.
        first: u64,
    },
}

/// What comes behind a record.
#[derive(Debug)]
pub enum Next {
    /// Lines of the log; `is_last` says that nothing is behind them yet.
    Lines {
        /// The lines, without their ends.
        lines: Vec<String>,
        /// Whether nothing is behind them yet.
        is_last: bool,
    },
    /// A part of the archive that has the next record.
    Archived(Part),
    /// The next record is not kept any more.
    Forgotten,
}

/// What comes behind a record; of the tables at most so many lines, and a line more than so many bytes.
pub fn next(fleet: &Fleet, behind: u64, lines_max: usize, bytes_max: usize) -> Next {
    let wanted = AuditNumber(behind.saturating_add(1));
    let mut rows = fleet.audit_from(wanted).peekable();
    if rows.peek().is_some_and(|(first, _)| *first == wanted) || fleet.audit_head().number < wanted
    {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < lines_max
            && bytes < bytes_max
            && let Some((_, row)) = rows.next()
        {
            bytes += row.line.len();
            lines.push(format!("{} {}", row.hash, row.line));
        }
        return Next::Lines { lines, is_last: rows.next().is_none() };
    }
    match fleet.audit_segment_of(wanted) {
        Some((name, first)) => {
            Next::Archived(Part::Archived { name: name.to_owned(), first: first.0 })
        }
        None => Next::Forgotten,
    }
}

/// The audit log as this member has it. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog {
    history: History,
    view: View,
}

impl AuditLog {
    pub(crate) fn new(history: History, view: View) -> Self {
        Self { history, view }
    }

    /// Up to `limit` records before a number (or the newest), newest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, AuditError> {
        let (mut page, mut looked_through) = (AuditPage::default(), 0);
        let before = before.unwrap_or(u64::MAX);
        for part in self.parts().into_iter().rev().filter(|part| part.first() < before) {
            if looked_through > SEGMENTS_PER_PAGE {
                return Ok(page);
            }
            looked_through += 1;
            let first = part.first();
            let text = self.text(part).await?;
            let lines: Vec<&str> = text.split_terminator('\n').collect();
            for (number, line) in (first..before).zip(lines).collect::<Vec<_>>().into_iter().rev() {
                if page.entries.len() == limit {
                    return Ok(page);
                }
                page.before = Some(number);
                let entry = entry(line).map_err(|fault| FaultAt { number, fault })?;
                if filter.lets_through(&entry) {
                    page.entries.push(entry);
                }
            }
        }
        page.before = None;
        Ok(page)
    }

    /// The hash of a record; `None` if it is not kept, or not written yet.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn hash_of(&self, number: u64) -> Result<Option<ChainHash>, AuditError> {
        let part = self.parts().into_iter().rev().find(|part| part.first() <= number);
        let Some(part) = part else { return Ok(None) };
        let at = number - part.first();
        let text = self.text(part).await?;
        let line = usize::try_from(at).ok().and_then(|at| text.split_terminator('\n').nth(at));
        let hash = line.map(|line| parse_line(line).map(|(hash, _)| hash)).transpose();
        Ok(hash.map_err(|fault| FaultAt { number, fault })?)
    }

    /// Checks every record that is kept, and that the log ends where the caller knows that it ended once.
    ///
    /// # Errors
    /// [`HistoryError`] if a part is not at hand; what is wrong with the log is in the verdict.
    pub async fn verify(&self, known: Option<Known>) -> Result<AuditVerdict, HistoryError> {
        let (parts, head) = self.whole();
        let first = parts.first().map_or(0, Part::first);
        let checked = self.check(parts, known).await?;
        let checked = checked.and_then(|chain| chain.ends_at(head.number.0, head.hash));
        let fault = checked.err();
        Ok(AuditVerdict {
            intact: fault.is_none(),
            first,
            last: head.number.0,
            hash: head.hash.to_string(),
            fault_at: fault.map(|fault| fault.number),
            fault: fault.map(|fault| fault.fault.to_string()),
        })
    }

    async fn check(
        &self,
        parts: Vec<Part>,
        known: Option<Known>,
    ) -> Result<Result<Chain, FaultAt>, HistoryError> {
        let mut verifier = Verifier::new(parts.first().map_or(0, Part::first), known);
        for part in parts {
            let text = self.text(part).await?;
            if let Err(fault) = text.split_terminator('\n').try_for_each(|line| verifier.line(line))
            {
                return Ok(Err(fault));
            }
        }
        Ok(verifier.end())
    }

    /// The log as it is now, in parts, oldest first.
    pub fn parts(&self) -> Vec<Part> {
        self.whole().0
    }

    fn whole(&self) -> (Vec<Part>, AuditHead) {
        self.view.local(|fleet| {
            let archived = fleet
                .audit_segments()
                .map(|(name, first)| Part::Archived { name: name.to_owned(), first: first.0 });
            let rows = fleet.audit_rows();
            let first = rows.first_key().map(|first| first.0);
            let recent = first.map(|first| Part::Recent { rows, first });
            (archived.chain(recent).collect(), fleet.audit_head())
        })
    }

    /// A part as text.
    ///
    /// # Errors
    /// [`HistoryError`] if it is not at hand.
    pub async fn text(&self, part: Part) -> Result<String, HistoryError> {
        match part {
            Part::Recent { rows, .. } => {
                Ok(rows.values().map(|row| line(&row.hash, &row.line)).collect())
            }
            Part::Archived { name, .. } => {
                let content = self.history.read(&name).await?;
                // It is what was archived, and that was text.
                Ok(String::from_utf8_lossy(&content).into_owned())
            }
        }
    }
}

impl Part {
    /// Number of its first record.
    pub fn first(&self) -> u64 {
        match self {
            Self::Archived { first, .. } | Self::Recent { first, .. } => *first,
        }
    }
}

/// The record in a line of the log.
///
/// # Errors
/// [`Fault::NotALine`].
pub fn entry(line: &str) -> Result<AuditEntry, Fault> {
    let (hash, record) = parse_line(line)?;
    let entry: AuditEntry = serde_json::from_str(record).map_err(|_| Fault::NotALine)?;
    Ok(AuditEntry { hash: hash.to_string(), ..entry })
}
