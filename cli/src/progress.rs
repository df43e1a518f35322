//! How far a migration is: a bar for a person at a terminal, a line now and then for everybody else.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use novacron_protocol::api::MigrationView;
use novacron_protocol::migration::MigrationPhase;
use novacron_protocol::time::Timestamp;

use crate::output::{notice, progress_line, progress_message};

/// Between two lines within one phase.
const LINE_PAUSE: Duration = Duration::from_secs(2);
/// Between two lines while nothing moves.
const SILENCE: Duration = Duration::from_secs(15);

/// Shows progress on standard error.
pub enum Progress {
    /// Nowhere.
    Hidden,
    /// As a bar that is drawn again and again.
    Bar(ProgressBar),
    /// As lines.
    Lines(Lines),
}

/// What decides whether the next line is due.
#[derive(Debug, Default)]
pub struct Lines {
    last: Option<Line>,
}

#[derive(Debug)]
struct Line {
    phase: MigrationPhase,
    bytes: u64,
    at: Instant,
}

impl Progress {
    /// Progress that suits standard error; hidden unless it was asked for.
    pub fn new(is_wanted: bool) -> Self {
        match (is_wanted, stderr().is_terminal()) {
            (false, _) => Self::Hidden,
            (true, true) => Self::Bar(bar()),
            (true, false) => Self::Lines(Lines::default()),
        }
    }

    /// Shows how it stands.
    pub fn show(&mut self, view: &MigrationView) {
        match self {
            Self::Hidden => (),
            Self::Bar(bar) => {
                bar.set_prefix(view.vm_name.to_string());
                bar.set_position(u64::from(view.progress_percentage));
                bar.set_message(progress_message(view, now()));
            }
            Self::Lines(lines) => {
                if lines.is_due(view, Instant::now()) {
                    notice(&progress_line(view, now()));
                }
            }
        }
    }

    /// Leaves the last state on the screen.
    pub fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

impl Lines {
    fn is_due(&mut self, view: &MigrationView, now: Instant) -> bool {
        let bytes =
            view.bytes_wire.saturating_add(view.bytes_disk).saturating_add(view.bytes_guest);
        let is_due = self.last.as_ref().is_none_or(|last| {
            let pause = if bytes == last.bytes { SILENCE } else { LINE_PAUSE };
            view.status.is_terminal()
                || view.phase != last.phase
                || now.duration_since(last.at) >= pause
        });
        if is_due {
            self.last = Some(Line { phase: view.phase, bytes, at: now });
        }
        is_due
    }
}

fn bar() -> ProgressBar {
    let template = "{prefix} [{bar:24}] {pos:>3} % {wide_msg}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(100).with_style(style.progress_chars("=> "))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
