//! Every way that a run can take through the proxy, with how often it was taken: answers, ends without an answer, detours. A way
//! that no seed takes is tested by none.

use super::backend::{ENDED, STALLED};
use super::hostile;
use super::ledger::{Ledger, TunnelEnd};
use hp_proxy::counters::Counters;
use std::collections::BTreeMap;

/// How often each way was taken in a run; those that were not are there with a zero.
pub(crate) fn count<'a>(
    ledger: &Ledger,
    rows: impl Iterator<Item = &'a Counters>,
) -> BTreeMap<String, u64> {
    let mut ways = BTreeMap::new();
    for (name, count) in rows.flat_map(detours) {
        *ways.entry(name.to_owned()).or_default() += count;
    }
    for (said, count) in ledger.refusals() {
        ways.insert(format!("{} {}", said.status, said.details), count);
    }
    for why in hostile::chunk_details().chain([ENDED, STALLED]) {
        ways.insert(format!("answer cut: {why}"), ledger.cuts(why));
    }
    for (end, name) in TunnelEnd::ALL {
        ways.insert(name.to_owned(), ledger.tunnels_ended(end));
    }
    let whole = ledger.tunnels_whole();
    for (name, count) in [
        ("tunnel whole", whole.all),
        ("tunnel whole over another plan", whole.over_plans),
        ("tunnel whole over another process", whole.over_processes),
    ] {
        ways.insert(name.to_owned(), count);
    }
    ways.insert("misdeed of a backend".to_owned(), ledger.misdeeds.get());
    ways
}

/// What the proxy itself counts; a counter that is new has to be taken up here, or left out in words.
fn detours(row: &Counters) -> [(&'static str, u64); 18] {
    let Counters {
        conns_accepted: _, // The ledger has it exactly.
        conns_open: _,     // Zero at the end.
        conns_moved,
        requests: _, // The ledger has it exactly.
        responses,
        answered_here,
        refused_by_client_fault,
        failed_by_backend_fault,
        client_aborts,
        responses_truncated,
        upstream_connects: _, // Nothing else goes on without them.
        upstream_connect_errors,
        upstream_redials,
        upstream_reuses,
        upstream_borrowed,
        // It takes a moment that hardly any seed meets: tests/borrowing.rs holds letters back for it.
        upstream_borrow_refused: _,
        multiplexed,
        multiplexed_waiting: _, // Zero at the end.
        multiplexed_moved,
        retries,
        queued,
        tunnels,
        tunnels_timed_out,
        accept_stalls,
        // Nothing of these runs asks for it: tests/pools.rs does.
        upstream_prewarmed: _,
        upstream_retired: _,
        upstream_evicted: _,
        // Routes of these runs have no mirror: tests/mirror.rs has them.
        mirrors: _,
        mirror_failures: _,
        mirrors_left_out: _,
        mirrors_too_large: _,
        conns_cut: _, // Counted only where each connection has a thread, whose order is the machine's.
    } = row;
    [
        ("answered whole", responses.value()),
        ("answered here", answered_here.value()),
        ("refused by client fault", refused_by_client_fault.value()),
        ("failed by backend fault", failed_by_backend_fault.value()),
        ("client abort", client_aborts.value()),
        ("truncated", responses_truncated.value()),
        ("connect error", upstream_connect_errors.value()),
        ("redial", upstream_redials.value()),
        ("reuse", upstream_reuses.value()),
        ("connection borrowed", upstream_borrowed.value()),
        ("multiplexed", multiplexed.value()),
        ("multiplexed and moved", multiplexed_moved.value()),
        ("retry", retries.value()),
        ("queued", queued.value()),
        ("tunnel", tunnels.value()),
        ("tunnel timed out", tunnels_timed_out.value()),
        ("accept stall", accept_stalls.value()),
        ("connection moved", conns_moved.value()),
    ]
}
