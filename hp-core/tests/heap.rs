//! Room of freed blocks goes back to the kernel. A program of its own: no other test takes or frees memory meanwhile.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(
    clippy::unwrap_used,
    reason = "a test's own files; any failure is a failed test"
)]

use std::fs;
use std::hint::black_box;

use hp_core::sys::heap;

#[test]
fn room_before_a_block_in_use_is_given_back() {
    let before = anonymous_kib();
    let crowd: Vec<Box<[u8; BLOCK]>> = (0..BLOCKS).map(|_| Box::new([1; BLOCK])).collect();
    let last = black_box(Box::new([1_u8; BLOCK]));
    let crowded = anonymous_kib();
    assert!(crowded >= before + ALL_KIB, "{before} {crowded}");
    drop(black_box(crowd));
    heap::give_back();
    let after = anonymous_kib();
    assert!(after <= crowded - ALL_KIB * 9 / 10, "{crowded} {after}");
    drop(last);
}

fn anonymous_kib() -> usize {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Anonymous:"));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.unwrap().parse().unwrap()
}

/// About a task's, and small enough to lie among others.
const BLOCK: usize = 4_000;
const BLOCKS: usize = 2_000;
const ALL_KIB: usize = BLOCK * BLOCKS / 1024;
