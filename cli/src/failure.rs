//! How a command fails: an exit code for programs, one line for people, and what to try next.

use std::fmt::Display;
use std::process::ExitCode;

use novacron_protocol::api::{Code, Problem};
use novacron_sdk::{ConfigError, Error};

/// What the process ends with. Part of the contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did not work.
    Failed = 1,
    /// The command or a value in it cannot be.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The present state does not allow it.
    Conflict = 4,
    /// The caller may not do that.
    NotAllowed = 5,
    /// It did not happen in time; it may still happen.
    TimedOut = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One line: what is wrong.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its exit code and its line.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Something did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The caller wrote something that cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same failure, with what would help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of this machine: what was tried, and why it did not work.
    pub fn io(what: impl Display, error: &dyn std::error::Error) -> Self {
        Self::failed(format!("{what}: {}", chain(error)))
    }
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Problem(problem) => Self::from(&**problem),
            Error::Unreachable { .. } => Self::failed(chain(&error))
                .hint("is the cluster up, and do the endpoints in the configuration point at it?"),
            Error::TimedOut { .. } => Self::new(Exit::TimedOut, chain(&error))
                .hint("it may still happen; `--timeout` waits longer"),
            Error::Config(config) if is_nothing_configured(config) => {
                Self::usage(chain(config)).hint(NO_CLUSTER)
            }
            Error::Config(config) => Self::usage(chain(config)),
            Error::Answer { .. } => Self::failed(chain(&error))
                .hint("do this program and the coordinators have the same version?"),
        }
    }
}

/// For somebody who has no cluster yet.
const NO_CLUSTER: &str = "`novacron dev up` makes a cluster on this machine and prints the line that makes this program use it";

/// Whether there is no configuration at all, rather than a wrong one.
fn is_nothing_configured(error: &ConfigError) -> bool {
    matches!(error, ConfigError::NoEndpoints { file } if !file.exists())
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Error::from(error).into()
    }
}

impl From<&Problem> for Failure {
    fn from(problem: &Problem) -> Self {
        let field = problem.field.as_ref().filter(|field| !problem.detail.contains(field.as_str()));
        let message = match field {
            Some(field) => format!("{field}: {}", problem.detail),
            None => problem.detail.clone(),
        };
        let failure = Self::new(exit_of(problem.code), all_of(message, problem));
        match hint_of(problem.code) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Where more than one field is wrong, each has its line.
fn all_of(first: String, problem: &Problem) -> String {
    match problem.invalid.as_slice() {
        [] | [_] => first,
        wrong => wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "),
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::InvalidRequest
        | Code::TooLarge
        | Code::TooManyRecords
        | Code::RevisionAhead
        | Code::HeadTooLarge
        | Code::CursorUnknown => Exit::Usage,
        Code::NotAllowed | Code::NotAuthenticated => Exit::NotAllowed,
        Code::NotFound => Exit::NotFound,
        Code::NameTaken
        | Code::Conflict
        | Code::AlreadyCorrected
        | Code::RateBegun
        | Code::MemberIdUsed
        | Code::TokenUsed
        | Code::TokenExpired
        | Code::NoCapacity
        | Code::QuotaExceeded
        | Code::PlanFull
        | Code::ResidencyRule
        | Code::UpgradeNeeded
        | Code::HasSnapshots
        | Code::SnapshotNeeded
        | Code::Disabled
        | Code::IdempotencyConflict
        | Code::RevisionGone
        | Code::RevisionUndone => Exit::Conflict,
        Code::OutcomeUnknown => Exit::TimedOut,
        Code::Unavailable
        | Code::NodeUnreachable
        | Code::SecretKeyMissing
        | Code::StorageFull
        | Code::ClockOff
        | Code::Internal
        | Code::TooManyWatchers
        | Code::TooStale
        | Code::RateLimited
        | Code::TooManyAtOnce
        | Code::RequestTimeout => Exit::Failed,
    }
}

fn hint_of(code: Code) -> Option<&'static str> {
    match code {
        Code::NotAuthenticated => Some(
            "is the certificate one of role `operator` whose name is a principal, or the API key one that is still good?",
        ),
        Code::NotAllowed => Some("`novacron whoami` shows who you are and what you may do"),
        Code::QuotaExceeded => Some("`novacron project show` shows what the project takes"),
        Code::HasSnapshots | Code::SnapshotNeeded => {
            Some("`novacron vm snapshot list` shows them, with their parents")
        }
        Code::ResidencyRule => Some(
            "`novacron region list` and `novacron project show` show the rules, `novacron node list` where nodes stand",
        ),
        Code::NameTaken => {
            Some("`list` of what you make shows the names in use, such as `novacron vm list`")
        }
        Code::NoCapacity => Some("`novacron node list` shows what each node has free"),
        Code::OutcomeUnknown => Some("it may have happened: look before you try again"),
        Code::NodeUnreachable => {
            Some("`novacron node list` shows its state; is its agent running, and its host up?")
        }
        Code::RevisionGone | Code::RevisionUndone => {
            Some("`novacron events` without `--from` begins with the oldest one that is remembered")
        }
        Code::Unavailable => Some("a majority of the coordinators must be up and reach each other"),
        Code::RateLimited | Code::TooManyAtOnce => {
            Some("a coordinator's `[limits]` say how much one client may ask of it")
        }
        Code::TokenUsed | Code::TokenExpired => Some(
            "`novacron token create` makes a new one, `novacron cluster add` one for a coordinator",
        ),
        Code::UpgradeNeeded | Code::SecretKeyMissing | Code::StorageFull | Code::ClockOff => {
            Some("`novacron cluster status` shows how the coordinators are")
        }
        Code::InvalidRequest
        | Code::NotFound
        | Code::Conflict
        | Code::MemberIdUsed
        | Code::HeadTooLarge
        | Code::RequestTimeout
        | Code::IdempotencyConflict
        | Code::TooLarge
        | Code::TooManyRecords
        | Code::AlreadyCorrected
        | Code::RateBegun
        | Code::PlanFull
        | Code::Internal
        | Code::CursorUnknown
        | Code::RevisionAhead
        | Code::TooManyWatchers
        | Code::TooStale
        | Code::Disabled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::api::{FieldCode, WrongField};

    #[test]
    fn each_problem_has_its_exit_code() {
        let exit = |code| Failure::from(&Problem::new(code, "x")).exit;
        assert_eq!(exit(Code::InvalidRequest), Exit::Usage);
        assert_eq!(exit(Code::NotFound), Exit::NotFound);
        assert_eq!(exit(Code::NameTaken), Exit::Conflict);
        assert_eq!(exit(Code::NotAllowed), Exit::NotAllowed);
        assert_eq!(exit(Code::OutcomeUnknown), Exit::TimedOut);
        assert_eq!(exit(Code::Internal), Exit::Failed);
        assert_eq!(exit(Code::NodeUnreachable), exit(Code::Unavailable));
    }

    #[test]
    fn each_wrong_field_has_its_line() {
        let wrong = |field: &str| WrongField {
            field: field.into(),
            reason: "no".into(),
            code: FieldCode::Range,
        };
        let problem = Problem::new(Code::InvalidRequest, "memory: no").about("memory");
        let one = Problem { invalid: vec![wrong("memory")], ..problem.clone() };
        assert_eq!(Failure::from(&one).message, "memory: no");
        let two = Problem { invalid: vec![wrong("memory"), wrong("cpus")], ..problem };
        assert_eq!(Failure::from(&two).message, "memory: no\n  cpus: no");
    }

    #[test]
    fn the_field_is_named_once() {
        let problem = Problem::new(Code::InvalidRequest, "must be at least 16 MiB").about("memory");
        assert_eq!(Failure::from(&problem).message, "memory: must be at least 16 MiB");
        let problem = Problem::new(Code::InvalidRequest, "memory: too small").about("memory");
        assert_eq!(Failure::from(&problem).message, "memory: too small");
    }

    #[test]
    fn what_the_sdk_cannot_do_has_its_exit_code_too() {
        let nobody =
            Failure::from(Error::Unreachable { attempts: vec!["https://a:1: refused".into()] });
        assert_eq!(nobody.exit, Exit::Failed);
        assert!(nobody.message.contains("https://a:1") && nobody.hint.is_some());
        let late =
            Error::TimedOut { what: "it stops".into(), after: std::time::Duration::from_secs(1) };
        assert_eq!(Failure::from(late).exit, Exit::TimedOut);
    }
}
