//! When to look at which peer again: a heap of deadlines in which each peer stands at most a few times.
//!
//! Timers mostly move later (each packet re-arms them), so a peer is pushed only when its next deadline comes *before* the entry it
//! already has; an entry that comes up too early is looked at and pushed again. Cost per packet: one comparison.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use crate::lock;

pub struct Schedule {
    heap: Mutex<BinaryHeap<Reverse<(u64, u32)>>>,
    /// The earliest entry, for a look without the lock; `u64::MAX` when empty.
    next_ns: AtomicU64,
}

impl Schedule {
    pub fn new() -> Self {
        Self {
            heap: Mutex::new(BinaryHeap::new()),
            next_ns: AtomicU64::new(u64::MAX),
        }
    }

    /// Adds an entry; true when it is now the earliest, so that a sleeping thread must be woken.
    pub fn push(&self, deadline_ns: u64, peer: u32) -> bool {
        let mut heap = lock(&self.heap);
        heap.push(Reverse((deadline_ns, peer)));
        let earliest = deadline_ns < self.next_ns.load(Ordering::Relaxed);
        if earliest {
            self.next_ns.store(deadline_ns, Ordering::Relaxed);
        }
        earliest
    }

    pub fn next_ns(&self) -> u64 {
        self.next_ns.load(Ordering::Relaxed)
    }

    /// Takes the peers whose deadline has come.
    pub fn due(&self, now_ns: u64, peers: &mut Vec<u32>) {
        peers.clear();
        let mut heap = lock(&self.heap);
        while let Some(Reverse((deadline_ns, peer))) = heap.peek().copied() {
            if deadline_ns > now_ns {
                self.next_ns.store(deadline_ns, Ordering::Relaxed);
                return;
            }
            heap.pop();
            peers.push(peer);
        }
        self.next_ns.store(u64::MAX, Ordering::Relaxed);
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_entry_once_in_time() {
        let schedule = Schedule::new();
        assert!(schedule.push(30, 3));
        assert!(schedule.push(10, 1));
        assert!(!schedule.push(20, 2));
        let mut peers = Vec::new();
        schedule.due(9, &mut peers);
        assert!(peers.is_empty());
        assert_eq!(schedule.next_ns(), 10);
        schedule.due(20, &mut peers);
        assert_eq!(peers, [1, 2]);
        assert_eq!(schedule.next_ns(), 30);
        schedule.due(1000, &mut peers);
        assert_eq!(peers, [3]);
        assert_eq!(schedule.next_ns(), u64::MAX);
    }
}
