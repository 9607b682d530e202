//! Why words make no plan, as a line for the user.

use std::fmt;
use std::path::PathBuf;

use crate::request::RequestError;
use crate::traffic::TrafficError;

/// Why the words make no plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanError {
    /// The positional word and the flag say different things.
    SaidTwice {
        /// Both names, and their values.
        what: &'static str,
    },
    /// More threads than connections.
    IdleThreads {
        /// As asked.
        threads: u32,
        /// As asked.
        connections: u32,
    },
    /// A flag's value that is out of range or no value, or flags that contradict each other: a line for the user.
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// A request that cannot be sent.
    Request(RequestError),
    /// A file that cannot be read.
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's word.
        cause: String,
    },
    /// A file that has no traffic in it.
    Traffic(TrafficError),
}

impl PlanError {
    /// Whether the words are wrong, rather than the world.
    pub fn is_misuse(&self) -> bool {
        !matches!(self, Self::File { .. })
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SaidTwice { what } => write!(f, "{what} differ; give one of them"),
            Self::IdleThreads {
                threads,
                connections,
            } => write!(
                f,
                "-t {threads} is more than {connections} connections; give at most one thread per connection"
            ),
            Self::Flag { flag, cause } => write!(f, "{flag}: {cause}"),
            Self::Request(error) => write!(f, "{error}"),
            Self::File { flag, file, cause } => {
                write!(
                    f,
                    "{flag} {}: {cause}; name a readable file",
                    file.display()
                )
            }
            Self::Traffic(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for PlanError {}
