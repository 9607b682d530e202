//! Marks at the places where a cell of a table in `docs/lifecycle` is acted on, which prove that simulations enter every
//! one of them. Without the feature `sim` nothing is recorded, and the marks are compiled to nothing.

#[cfg(feature = "sim")]
use std::collections::BTreeSet;

/// One of the tables, by the name of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `operation.md`
    Operation,
    /// `connection.md`
    Connection,
    /// `exchange.md`
    Exchange,
    /// `drain.md`
    Drain,
}

/// A table, a row of it, and a column: both by their titles.
pub type Cell = (Table, &'static str, &'static str);

/// Takes note that an event was met in a state.
#[cfg(feature = "sim")]
pub fn enter(table: Table, state: &'static str, event: &'static str) {
    ENTERED.with_borrow_mut(|entered| {
        if let Some(entered) = entered {
            entered.insert((table, state, event));
        }
    });
}

/// Takes note that an event was met in a state.
#[cfg(not(feature = "sim"))]
#[inline]
pub const fn enter(_table: Table, _state: &'static str, _event: &'static str) {}

/// Passes a future on; enters a cell when something becomes true while it waits.
#[cfg(feature = "sim")]
pub async fn watch<F: Future>(cell: Cell, is_true: impl Fn() -> bool, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut was_true = is_true();
    std::future::poll_fn(|cx| {
        if !was_true && is_true() {
            was_true = true;
            enter(cell.0, cell.1, cell.2);
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// Passes a future on; enters a cell when something becomes true while it waits.
#[cfg(not(feature = "sim"))]
#[inline]
pub fn watch<F: Future>(_cell: Cell, _is_true: impl Fn() -> bool, future: F) -> F {
    future
}

/// Records what is entered on this thread meanwhile.
#[cfg(feature = "sim")]
pub fn record(play: impl FnOnce()) -> BTreeSet<Cell> {
    ENTERED.set(Some(BTreeSet::new()));
    play();
    ENTERED.take().unwrap_or_default()
}

#[cfg(feature = "sim")]
thread_local! {
    static ENTERED: std::cell::RefCell<Option<BTreeSet<Cell>>> = const { std::cell::RefCell::new(None) };
}
