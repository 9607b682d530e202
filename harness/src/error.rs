//! What can keep the harness from measuring. Each message is one line that says what, where and what to do; what the
//! child printed follows, indented.

use std::path::PathBuf;
use std::{error, fmt, io};

use crate::wire::WireError;

/// Why a session could not start, measure or be written.
#[derive(Debug)]
pub enum Error {
    /// A program of the topology is not where it should be.
    NoProgram {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The kernel refused to start a program.
    Spawn {
        /// The program with its arguments.
        command: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// A server ended, or stayed silent, before it said where it listens.
    NotReady {
        /// The program with its arguments.
        command: String,
        /// What was seen instead.
        seen: String,
        /// What the program printed.
        stderr: String,
    },
    /// A plan, a list of subjects or a template is not usable.
    Plan {
        /// The file, or where the words came from.
        path: PathBuf,
        /// What is wrong, where in it, and what to write instead.
        cause: String,
    },
    /// A file of a session could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The sources differ from their commit, whose name the results would bear.
    Dirty,
    /// A signal asked the session to end.
    Interrupted,
    /// A single request through a subject came to nothing.
    Wire(WireError),
    /// A result could not be written.
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram { path } => write!(
                out,
                "{}: no such program; run `cargo build --release` or name its folder with --bin-dir",
                path.display()
            ),
            Self::Spawn { command, cause } => {
                write!(
                    out,
                    "{command}: does not start ({cause}); run it by hand to see why"
                )
            }
            Self::NotReady {
                command,
                seen,
                stderr,
            } => {
                write!(out, "{command}: {seen}; run it by hand to see why")?;
                printed(out, stderr)
            }
            Self::Dirty => write!(
                out,
                "the work tree differs from its commit; commit it, or pass --force to measure it under a name that says so"
            ),
            Self::Interrupted => write!(out, "interrupted before anything was measured"),
            Self::Plan { path, cause } => write!(out, "{}: {cause}", path.display()),
            Self::Read { path, cause } => {
                write!(out, "{}: cannot be read ({cause})", path.display())
            }
            Self::Wire(error) => error.fmt(out),
            Self::Write { path, cause } => write!(
                out,
                "{}: cannot be written ({cause}); name another folder with --out",
                path.display()
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Spawn { cause, .. } | Self::Write { cause, .. } => Some(cause),
            Self::Wire(error) => error.source(),
            Self::NoProgram { .. }
            | Self::NotReady { .. }
            | Self::Dirty
            | Self::Interrupted
            | Self::Plan { .. }
            | Self::Read { .. } => None,
        }
    }
}

/// Appends what a child printed, set off from the message.
fn printed(out: &mut fmt::Formatter<'_>, stderr: &str) -> fmt::Result {
    for line in stderr.lines() {
        write!(out, "\n  | {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_fails_is_quoted_below_the_message() {
        let error = Error::NotReady {
            command: "hp-proxy --engine uring".into(),
            seen: "ended before it listened (exit status: 1)".into(),
            stderr: "io_uring is not allowed\nset it free\n".into(),
        };
        let text = error.to_string();
        let mut lines = text.lines();
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("hp-proxy --engine uring: ended before")
        );
        assert_eq!(lines.next(), Some("  | io_uring is not allowed"));
        assert_eq!(lines.next(), Some("  | set it free"));
    }
}
