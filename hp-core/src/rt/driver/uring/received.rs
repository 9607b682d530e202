//! What a receive in a ring brings: bytes, the end, an error, or that there was no buffer.

use super::answer;
use crate::base::slab::Key;
use crate::rt::buf::Group;
use crate::rt::driver::op::recv::wake;
use crate::rt::driver::slot::{self, Armed, ConnSlot, Phase, RxEnd};
use crate::rt::driver::{Driver, Io};
use crate::rt::lifecycle::{Table, enter};
use crate::sys::ring::Completion;

/// An answer to a receive, or to a discard.
pub(super) fn received(io: &mut Io, key: Option<Key>, completion: Completion) {
    let len = u32::try_from(completion.result).unwrap_or(0);
    let Driver::Uring(uring) = &io.driver else {
        unreachable!("completions come from a ring")
    };
    let reaped_at = uring.reaped_at;
    let lent = completion.buffer.map(|id| {
        let Driver::Uring(uring) = &mut io.driver else {
            unreachable!("completions come from a ring")
        };
        uring.head.taken(&io.pool, id, len)
    });
    let Some(key) = key else { return }; // Cannot be: a slot lives until its last completion. The buffer returns.
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    enter(Table::Operation, slot.recv_row(), answer(&completion));
    let is_first = note_received(&mut slot.kernel, completion);
    slot.note_receive();
    if slot.phase == Phase::Closing {
        if lent.is_some() {
            enter(Table::Connection, "Closing", "bytes arrive");
        }
        drop(lent);
        if slot.misses_end() && !slot.kernel.is_called_back {
            io.end_receive(key);
        }
        io.free_if_quiet(key);
        return;
    }
    match completion.result {
        1.. => {
            if let Some(stamps) = &mut io.stamps {
                stamps.note_received(key, reaped_at);
            }
            match lent {
                Some(lent) => {
                    enter(Table::Connection, slot.phase.row(), "bytes arrive");
                    slot.note_read(lent.len(), io.pool.buffer_bytes(Group::Head) as usize);
                    slot.rx.push(lent);
                }
                // Only a discard takes no buffer; who parked the connection meanwhile waits for what follows.
                None => {
                    let is_parked = matches!(slot.phase, Phase::Parked { .. });
                    io.note_discarded(key, len);
                    if is_parked {
                        return io.arm_recv(key);
                    }
                }
            }
            if is_first && completion.more {
                find_failure(io, key);
            }
        }
        _ if slot.rx_end.is_some() => (), // The end that was found first stays.
        0 => slot.end_rx(slot.end_of_data()),
        error => match -error {
            libc::ENOBUFS => return found_no_buffer(io, key),
            libc::ECANCELED | libc::EINTR | libc::EAGAIN if !completion.more => {
                return ended_without_news(io, key);
            }
            errno => slot.end_rx(RxEnd::Failed(errno)),
        },
    }
    io.announce_rx(key);
}

/// A receive has ended for want of a buffer; it is armed again when one comes back.
#[cold]
fn found_no_buffer(io: &mut Io, key: Key) {
    io.stats.buffer_shortages += 1;
    if let Some(slot) = io.conns.get_mut(key) {
        slot.kernel.starved = true;
        // It stays here, and whoever wanted it elsewhere is told. And who wants no bytes goes on without a buffer.
        if slot.kernel.is_called_back || io.discards.end_wait(key) {
            wake(&mut slot.rx_waker);
        }
    }
    if let Driver::Uring(uring) = &mut io.driver {
        uring.head.starve(key);
    }
}

/// A receive has ended and brought nothing; it is armed again for whoever still waits, and that is nobody who called it back.
#[cold]
fn ended_without_news(io: &mut Io, key: Key) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    if slot.kernel.is_called_back {
        wake(&mut slot.rx_waker);
    } else if slot.rx_waker.is_some() || matches!(slot.phase, Phase::Parked { .. }) {
        io.arm_recv(key);
        if io.conns.get(key).is_some_and(ConnSlot::has_news) {
            io.announce_rx(key); // Large buffers are filled at once.
        }
    }
}

/// Takes note of a receive's completion; gives whether it was the first that left nothing in the socket.
fn note_received(kernel: &mut slot::Kernel, completion: Completion) -> bool {
    let was_first = kernel.armed == Armed::Receive { is_first: true };
    kernel.nonempty = completion.nonempty;
    kernel.has_received = true;
    kernel.armed = if completion.more {
        // With more in the socket, the receive goes on to it, and to what is behind it.
        Armed::Receive {
            is_first: was_first && completion.nonempty,
        }
    } else {
        Armed::Nothing
    };
    was_first && !completion.nonempty
}

/// Looks for a reset behind the first bytes of a receive that goes on.
///
/// Bytes and a reset that are both there when a receive is armed are one event to the kernel. The receive takes the bytes, and unlike a
/// FIN, the reset is no reason to it to try again: it waits for another event, which never comes.
fn find_failure(io: &mut Io, key: Key) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    match io.kernel.take_error(slot.fd) {
        Ok(()) => (),
        Err(error) => slot.end_rx(RxEnd::Failed(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}
