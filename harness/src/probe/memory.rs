//! What memory belongs to: the programs, which `smaps_rollup` tells, and the kernel, which tells only for all of the machine. The two
//! are kept apart, since a socket costs the kernel the same whoever holds it.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

/// The kernel's memory for connections at one moment, of all programs together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KernelMemory {
    /// TCP sockets in use, both ends of a loopback connection.
    pub sockets: Option<u64>,
    /// Bytes in socket buffers.
    pub buffer_bytes: Option<u64>,
    /// Bytes of live objects by slab, of those in [`SLABS`]; empty where the kernel shows them to root alone.
    pub slab_bytes: BTreeMap<String, u64>,
}

impl KernelMemory {
    /// Reads `/proc/net/sockstat` and `/proc/slabinfo`.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let (sockets, pages) = parse_sockstat(&text("/proc/net/sockstat"));
        Self {
            sockets,
            buffer_bytes: pages.map(|pages| pages * PAGE_BYTES),
            slab_bytes: parse_slabs(&text("/proc/slabinfo")),
        }
    }

    /// Buffers and slabs together; none where either is unknown.
    pub fn bytes(&self) -> Option<u64> {
        let slabs = (!self.slab_bytes.is_empty()).then(|| self.slab_bytes.values().sum::<u64>());
        Some(self.buffer_bytes? + slabs?)
    }

    /// For a record's `extra`.
    pub fn json(&self) -> Value {
        json!({"sockets": self.sockets, "buffer_bytes": self.buffer_bytes, "slab_bytes": self.slab_bytes})
    }
}

/// Sockets in use and pages of buffers, from `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1`.
fn parse_sockstat(text: &str) -> (Option<u64>, Option<u64>) {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    let words: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().collect();
    let value = |name: &str| {
        let mut pairs = words.chunks_exact(2);
        let pair = pairs.find(|pair| pair.first() == Some(&name))?;
        pair.get(1)?.parse().ok()
    };
    (value("inuse"), value("mem"))
}

/// Live objects times their size, for the slabs that connections live in. slabinfo(5), version 2.1.
fn parse_slabs(text: &str) -> BTreeMap<String, u64> {
    let mut slabs = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next().filter(|name| SLABS.contains(name)) else {
            continue;
        };
        let numbers: Vec<u64> = words.take(3).filter_map(|word| word.parse().ok()).collect();
        if let [live, _all, object_bytes] = numbers[..] {
            slabs.insert(name.to_owned(), live.saturating_mul(object_bytes));
        }
    }
    slabs
}

/// What a connection is made of in the kernel: the socket, its inode and file, and its entry in an epoll set. Names of files (dentry) are
/// not among them, since they are mostly a cache of something else.
pub const SLABS: [&str; 7] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "filp",
    "eventpoll_epi",
    "eventpoll_pwq",
    "request_sock_TCP",
];

const PAGE_BYTES: u64 = 4096; // of /proc/net/sockstat on every architecture that we run on

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockstat_counts_sockets_and_pages() {
        let text =
            "sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 31\nUDP: inuse 1 mem 2\n";
        assert_eq!(parse_sockstat(text), (Some(5), Some(31)));
        assert_eq!(parse_sockstat("TCP: inuse"), (None, None));
        assert_eq!(parse_sockstat(""), (None, None));
    }

    #[test]
    fn slabs_count_live_objects() {
        let text = "slabinfo - version: 2.1\n\
            # name <active_objs> <num_objs> <objsize> : tunables\n\
            TCP 100 120 2432 13 8 : tunables 0 0 0 : slabdata 4 4 0\n\
            kmalloc-64 9 9 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n\
            filp 10 16 256 x\n";
        let slabs = parse_slabs(text);
        assert_eq!(slabs.len(), 2);
        assert_eq!(slabs["TCP"], 243_200);
        assert_eq!(slabs["filp"], 2_560);
        assert!(parse_slabs("TCP x\n").is_empty());
    }
}
