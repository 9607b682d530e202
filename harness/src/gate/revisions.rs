//! Two revisions as programs: worktrees of git, built by one toolchain into one folder, one after the other.

use hp_core::obs::notice::say;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name of the working tree as it is.
pub const WORKING_TREE: &str = ".";

/// Worktrees, which are given back to git when this is dropped.
#[derive(Debug)]
pub struct Revisions {
    folder: tempfile::TempDir,
    trees: Vec<PathBuf>,
}

impl Revisions {
    /// A place for them.
    ///
    /// # Errors
    /// One line of what the system says.
    pub fn new() -> Result<Self, String> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        Ok(Self {
            folder,
            trees: Vec::new(),
        })
    }

    /// Builds hp-proxy of a revision, with the features named; gives the program. `target_dir` is kept by whoever calls, so that
    /// the next build has less to do.
    ///
    /// # Errors
    /// One line: the revision is not known, or does not build.
    pub fn build(
        &mut self,
        name: &str,
        revision: &str,
        target_dir: &Path,
    ) -> Result<PathBuf, String> {
        let tree = if revision == WORKING_TREE {
            PathBuf::from(WORKING_TREE)
        } else {
            self.check_out(name, revision)?
        };
        say(format_args!(
            "harness: {name}: building hp-proxy of {revision}"
        ));
        let mut cargo = Command::new(cargo());
        cargo
            .args([
                "build",
                "--release",
                "--locked",
                "-p",
                "hp-proxy",
                "--bin",
                "hp-proxy",
            ])
            .arg("--target-dir")
            .arg(absolute(target_dir)?)
            .current_dir(&tree);
        run(&mut cargo).map_err(|reason| format!("{revision} does not build: {reason}"))?;
        let folder = self.folder.path().join(format!("{name}-bin"));
        let program = folder.join("hp-proxy");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::copy(target_dir.join("release/hp-proxy"), &program))
            .map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(program)
    }

    fn check_out(&mut self, name: &str, revision: &str) -> Result<PathBuf, String> {
        let tree = self.folder.path().join(name);
        let commit = format!("{revision}^{{commit}}");
        let mut git = Command::new("git");
        git.args(["worktree", "add", "--quiet", "--detach", "--force"]);
        git.arg(&tree).arg(&commit);
        run(&mut git).map_err(|reason| {
            format!(
                "{revision}: no such revision here; name a branch, a tag or a commit ({reason})"
            )
        })?;
        self.trees.push(tree.clone());
        Ok(tree)
    }
}

impl Drop for Revisions {
    fn drop(&mut self) {
        for tree in &self.trees {
            let mut git = Command::new("git");
            git.args(["worktree", "remove", "--force"]).arg(tree);
            if let Err(reason) = run(&mut git) {
                say(format_args!(
                    "harness: {}: {reason}; git worktree prune",
                    tree.display()
                ));
            }
        }
    }
}

/// The messages of the commits that `head` has and `base` has not.
///
/// # Errors
/// One line of what git says.
pub fn messages_between(base: &str, head: &str) -> Result<String, String> {
    let head = if head == WORKING_TREE { "HEAD" } else { head };
    let range = format!("{base}..{head}");
    let mut git = Command::new("git");
    git.args(["log", "--format=%B", &range, "--"]);
    run(&mut git)
}

/// What a command printed; one line of its complaint, where it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaint = stderr
        .lines()
        .find(|line| line.starts_with("error") || line.starts_with("fatal"));
    let complaint = complaint.or_else(|| stderr.lines().last());
    Err(complaint.unwrap_or("it says nothing").to_owned())
}

/// That which runs us, where one does: the toolchain of a build is the toolchain of the other one.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_unset| String::from("cargo"))
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_revision_is_one_line() {
        let mut revisions = Revisions::new().unwrap();
        let target = revisions.folder.path().join("target");
        let reason = revisions
            .build("base", "no-such-revision", &target)
            .unwrap_err();
        assert!(
            reason.starts_with("no-such-revision: no such revision here"),
            "{reason}"
        );
        assert_eq!(reason.lines().count(), 1, "{reason}");
        assert!(messages_between("no-such-revision", WORKING_TREE).is_err());
    }
}
