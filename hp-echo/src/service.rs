//! What is served, alike by every worker and thread.
//!
//! Must not know: connections, tasks.
#![expect(
    clippy::disallowed_types,
    reason = "one open directory for all workers, counted at their start and end only"
)]

use std::io;
use std::sync::Arc;

use hp_core::sys::file::Root;

use crate::cli::Options;
use crate::counters::Rows;

/// What is served, and where it is counted. Clones share the directory and the counters.
#[derive(Clone, Debug)]
pub struct Service {
    /// Length of the fixed body.
    pub(crate) body_len: u64,
    /// What the files are below, if files are served.
    pub(crate) root: Option<Arc<Root>>,
    /// Everybody's counters.
    pub(crate) rows: Rows,
}

impl Service {
    /// The fixed body, by one worker.
    #[must_use]
    pub fn fixed(body_len: u64) -> Self {
        Self {
            body_len,
            root: None,
            rows: Rows::new(1, 0),
        }
    }

    /// What the options ask for, by so many workers.
    ///
    /// # Errors
    /// What opening the directory for files answers.
    pub fn new(options: &Options, workers: u32) -> io::Result<Self> {
        let root = options.root.as_deref().map(Root::open).transpose()?;
        Ok(Self {
            body_len: options.body,
            root: root.map(Arc::new),
            rows: Rows::new(workers, options.threads_max),
        })
    }

    /// What was counted so far, as the JSON that `/counters` answers.
    #[must_use]
    pub fn counters(&self) -> String {
        self.rows.json()
    }
}
