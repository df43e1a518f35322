//! What can go wrong, by what a caller can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use novacron_protocol::api::Problem;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A coordinator answered that it cannot be; the problem says why and names the field.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No coordinator could be reached. A write under a key that may have happened all the same is a problem with the code
    /// [`OutcomeUnknown`](novacron_protocol::api::Code::OutcomeUnknown); what was typed at a console may have arrived.
    #[error("no coordinator answers ({})", .attempts.join("; "))]
    Unreachable {
        /// Endpoint and reason, the last of each endpoint.
        attempts: Vec<String>,
    },
    /// It did not happen in time.
    #[error("timed out after {} s: {what}", .after.as_secs_f64())]
    TimedOut {
        /// What was waited for and how it stood.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// The client's own configuration cannot be used.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// A coordinator answered something that this version does not understand.
    #[error("{endpoint} answered something unexpected: {detail}")]
    Answer {
        /// Who answered.
        endpoint: String,
        /// What was wrong with the answer.
        detail: String,
    },
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Error {
    /// The problem document, if a coordinator gave one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that is needed cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        problem: String,
    },
    /// Nothing says where the coordinators are.
    #[error(
        "no endpoints: give them as an option, in NOVACRON_ENDPOINTS (https://HOST:7443, comma-separated) or as \
         `endpoints` in {}", file.display()
    )]
    NoEndpoints {
        /// The file that was looked at.
        file: PathBuf,
    },
    /// Nothing says where the credentials are.
    #[error(
        "no credentials: give their directory as an option, in NOVACRON_CREDENTIALS or as `credentials` in {}",
        file.display()
    )]
    NoCredentials {
        /// The file that was looked at.
        file: PathBuf,
    },
    /// An endpoint is not a URL of a coordinator.
    #[error("endpoint `{endpoint}`: {problem}; write https://HOST:7443")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The credential directory does not hold usable credentials.
    #[error("credentials in {}: {problem}", directory.display())]
    Credentials {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        problem: String,
    },
}
