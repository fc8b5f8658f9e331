//! When to look at which peer again: deadlines in order, in which each peer stands at most once.
//!
//! Timers mostly move later (each packet re-arms them), so a peer is pushed only when its next deadline comes *before* the entry it
//! already has, which it replaces; an entry that comes up too early is looked at and pushed again. Cost per packet: one comparison.
//! Were the replaced entry left to come up in its time, it would be pushed again then, and entries would grow for as long as a
//! peer is never without a deadline.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use crate::lock;

pub struct Schedule {
    entries: Mutex<BTreeSet<(u64, u32)>>,
    /// The earliest entry, for a look without the lock; `u64::MAX` when empty.
    next_ns: AtomicU64,
}

impl Schedule {
    pub fn new() -> Self {
        Self {
            entries: Mutex::new(BTreeSet::new()),
            next_ns: AtomicU64::new(u64::MAX),
        }
    }

    /// Adds an entry, in place of the peer's one at *replaced_ns* (0: it has none); true when it is now the earliest, so that a
    /// sleeping thread must be woken.
    pub fn push(&self, deadline_ns: u64, peer: u32, replaced_ns: u64) -> bool {
        let mut entries = lock(&self.entries);
        if replaced_ns != 0 {
            entries.remove(&(replaced_ns, peer));
        }
        entries.insert((deadline_ns, peer));
        let earliest = deadline_ns < self.next_ns.load(Ordering::Relaxed);
        if earliest {
            self.next_ns.store(deadline_ns, Ordering::Relaxed);
        }
        earliest
    }

    /// Forgets the peer, whose entry is at *deadline_ns* (0: it has none). The earliest deadline is left as it is: at worst somebody looks
    /// once for nothing.
    pub fn remove(&self, deadline_ns: u64, peer: u32) {
        lock(&self.entries).remove(&(deadline_ns, peer));
    }

    pub fn next_ns(&self) -> u64 {
        self.next_ns.load(Ordering::Relaxed)
    }

    /// Takes the entries whose deadline has come. One that is no longer what its peer is scheduled for was replaced just now.
    pub fn due(&self, now_ns: u64, due: &mut Vec<(u64, u32)>) {
        due.clear();
        let mut entries = lock(&self.entries);
        while let Some((deadline_ns, peer)) = entries.first().copied() {
            if deadline_ns > now_ns {
                self.next_ns.store(deadline_ns, Ordering::Relaxed);
                return;
            }
            entries.pop_first();
            due.push((deadline_ns, peer));
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
        assert!(schedule.push(30, 3, 0));
        assert!(schedule.push(10, 1, 0));
        assert!(!schedule.push(20, 2, 0));
        let mut due = Vec::new();
        schedule.due(9, &mut due);
        assert!(due.is_empty());
        assert_eq!(schedule.next_ns(), 10);
        schedule.due(20, &mut due);
        assert_eq!(due, [(10, 1), (20, 2)]);
        assert_eq!(schedule.next_ns(), 30);
        schedule.due(1000, &mut due);
        assert_eq!(due, [(30, 3)]);
        assert_eq!(schedule.next_ns(), u64::MAX);
    }

    #[test]
    fn a_removed_peer_leaves_nothing() {
        let schedule = Schedule::new();
        schedule.push(10, 1, 0);
        schedule.push(20, 2, 0);
        schedule.remove(10, 1);
        schedule.remove(0, 3);
        let mut due = Vec::new();
        schedule.due(10, &mut due);
        assert!(due.is_empty());
        assert_eq!(schedule.next_ns(), 20);
        assert_eq!(lock(&schedule.entries).len(), 1);
    }

    #[test]
    fn a_sooner_deadline_replaces_the_later_one() {
        let schedule = Schedule::new();
        schedule.push(100, 1, 0);
        assert!(schedule.push(40, 1, 100));
        schedule.push(60, 2, 0);
        let mut due = Vec::new();
        schedule.due(1000, &mut due);
        assert_eq!(due, [(40, 1), (60, 2)]);
    }
}
