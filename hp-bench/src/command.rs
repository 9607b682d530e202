//! Which of the program's commands the words ask for.
//!
//! The first word decides: the name of a command, or else a target, so that the short form of a run
//! needs no name. No target can be mistaken for a name, since a target has a port or a scheme.
//!
//! Must not know: what a command does.

use std::ffi::OsString;

use crate::cli::{self, Cli, Stop};

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Load a target.
    Run(Cli),
}

/// Reads the words; the first is the program's name.
///
/// # Errors
/// [`Stop`] where there is nothing to do.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let name = words.get(1).and_then(|word| word.to_str());
    match name.unwrap_or_default() {
        "run" => {
            words.remove(1);
            cli::parse(words).map(Command::Run)
        }
        _ => cli::parse(words).map(Command::Run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Result<Command, Stop> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn run_is_implied() {
        for line in ["hp-bench a:1 2 3", "hp-bench run a:1 2 3"] {
            let Ok(Command::Run(cli)) = command(line) else {
                panic!("{line}")
            };
            assert_eq!(cli.target.to_string(), "http://a:1/");
            assert_eq!(cli.connections_word, Some(2));
        }
    }

    #[test]
    fn words_that_are_no_command_are_a_target() {
        assert!(matches!(command("hp-bench mergee"), Err(Stop::Misuse(_))));
        assert!(matches!(command("hp-bench"), Err(Stop::Misuse(_))));
    }
}
