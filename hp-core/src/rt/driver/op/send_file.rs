//! Sending a part of a file: by `sendfile(2)`, on every engine, as far as the socket takes it. The rest waits in the slot's
//! queue, as a name of what is to be sent and not as bytes, and goes on when there is room. A simulated kernel has files of
//! its own.

use super::send::Behind;
use crate::base::slab::Key;
use crate::rt::driver::queues::TxQueue;
use crate::rt::driver::{FilePart, Io};
use std::io::{self, IoSlice};

impl FilePart {
    /// Drops the first `count` bytes: the socket took them.
    pub(in crate::rt::driver) fn advance(&mut self, count: usize) {
        let count = self.left.min(count as u64);
        self.offset += count;
        self.left -= count;
    }
}

/// What came of offering a part of a file to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It took so many bytes, and maybe takes more.
    Taken(usize),
    /// It takes none now, and will tell.
    Full,
    /// Sending has failed, which the slot knows.
    Failed,
}

impl Io {
    /// Sends `head`, and behind it the part of a file, at once as far as the socket takes them; nothing of the file is
    /// copied.
    pub(crate) fn write_file(
        &mut self,
        key: Key,
        head: &[u8],
        mut part: FilePart,
    ) -> io::Result<()> {
        if part.left == 0 {
            return self.write(key, head); // Nothing follows for which the kernel could wait.
        }
        self.send_letter(key);
        let is_empty = self.sending(key)?.tx.is_empty();
        let mut head_sent = 0;
        if is_empty && !head.is_empty() {
            head_sent = self.offer(key, &[IoSlice::new(head)], Behind::More)?;
        }
        let mut is_full = !is_empty || head_sent < head.len();
        while !is_full && part.left > 0 {
            match self.offer_file(key, &part) {
                Offered::Taken(count) => part.advance(count),
                Offered::Full => is_full = true,
                Offered::Failed => return self.sending(key).map(drop),
            }
        }
        if !is_full {
            return Ok(());
        }
        let slot = self.sending(key)?;
        queue_rest(&mut slot.tx, &head[head_sent..], part);
        self.stats.short_sends += 1;
        self.arm_writable(key);
        Ok(())
    }

    /// One attempt to send a part of a file.
    pub(super) fn offer_file(&mut self, key: Key, part: &FilePart) -> Offered {
        let Some(slot) = self.conns.get(key) else {
            return Offered::Failed;
        };
        self.stats.sends += 1;
        let sent = self.kernel.send_file(slot.fd, part, FILE_BYTES_MAX);
        let errno = match sent {
            Ok(0) => libc::EIO, // Somebody has cut the file short since its length was told to the peer.
            Ok(count) => return Offered::Taken(count),
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        match errno {
            libc::EAGAIN => Offered::Full,
            libc::EINTR => Offered::Taken(0),
            errno => {
                self.fail_sending(key, errno);
                Offered::Failed
            }
        }
    }
}

fn queue_rest(queue: &mut TxQueue, head: &[u8], part: FilePart) {
    queue.push_copy(head);
    queue.push_file(part);
}

/// Bytes that one call sends at most.
const FILE_BYTES_MAX: usize = 1024 * 1024;
