//! What the polls in a ring tell: that a connection is readable, writable, or has ended or failed.

use super::answer;
use crate::base::slab::Key;
use crate::rt::driver::slot::{Armed, Idleness, Phase};
use crate::rt::driver::{Driver, Io};
use crate::rt::lifecycle::{Table, enter};
use crate::sys::ring::Completion;

/// There is something to be had, for whoever splices or receives by a call.
pub(super) fn became_readable(io: &mut Io, key: Key) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    enter(Table::Operation, slot.recv_row(), "the final answer");
    slot.kernel.armed = Armed::Nothing;
    slot.readiness.readable = slot.is_spliced() || slot.is_bulk() || slot.readiness.failed;
    if !slot.is_spliced() {
        slot.kernel.nonempty = !slot.is_bulk(); // A receive in the ring need not wait first; who receives by a call leaves nothing to it.
        if let Phase::Parked { idleness, .. } = &mut slot.phase {
            *idleness = Idleness::Fresh;
            io.arm_recv(key); // Nobody is there whom this could wake.
        }
    }
    io.announce_rx(key);
    io.free_if_quiet(key);
}

/// The peer has ended its side, or there is a failure. Whoever waits reads on as a readiness engine does, and so far, to find out what it was.
pub(super) fn ended_or_failed(io: &mut Io, key: Key, completion: Completion) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    slot.kernel.failure_armed = completion.more;
    let row = match slot.phase {
        Phase::Closing => "Leaving",
        _ => "Armed",
    };
    enter(Table::Operation, row, answer(&completion));
    let leaves_receive_alone = if completion.result == -libc::ECANCELED {
        // Called back for a release, and the connection stayed with a receive that relies on it.
        let is_over = slot.phase == Phase::Closing || slot.kernel.is_called_back;
        !is_over && !slot.readiness.hung_up
    } else {
        // A poll that is refused tells of nothing: whoever relied on it does as if it had.
        let was_told = std::mem::replace(&mut slot.readiness.hung_up, true);
        slot.readiness.failed |= tells(completion.result, libc::POLLERR | libc::POLLHUP); // The peer's end alone is no failure.
        slot.readiness.readable |= slot.readiness.failed;
        !was_told
    };
    if leaves_receive_alone
        && slot.misses_end()
        && let Driver::Uring(uring) = &mut io.driver
    {
        uring.call_receive_back(key); // Whoever still waits arms another, which finds the end or has a poll again.
    }
    io.announce_rx(key);
    io.free_if_quiet(key);
}

/// There is room, or an attempt to connect has its outcome.
pub(super) fn became_writable(io: &mut Io, key: Key, result: i32) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    slot.kernel.poll_armed = false;
    let row = match slot.phase {
        Phase::Closing => "Leaving",
        _ => "Armed",
    };
    enter(Table::Operation, row, "the final answer");
    match slot.phase {
        Phase::Closing => io.free_if_quiet(key),
        Phase::Connecting if result < 0 => io.fail_connect(key, -result), // Not polled: nothing is known of the peer.
        Phase::Connecting => {
            slot.readiness.failed = tells(result, !libc::POLLOUT);
            io.finish_connect(key);
        }
        Phase::Open | Phase::Parked { .. } => io.resume_sending(key),
    }
}

/// Whether the answer to a poll has one of these bits of poll(2).
fn tells(result: i32, events: i16) -> bool {
    result > 0 && result & i32::from(events) != 0
}
