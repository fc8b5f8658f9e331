//! The engine: what happens once per packet, and only that.
//!
//! A [`Tunnel`] is one WireGuard interface: a device, two UDP sockets, peers, and two threads. The *transmitting* thread reads the
//! device, finds the peer, takes counters, seals and sends; it also runs the data timers and is the only one that takes counters.
//! The *receiving* thread reads the sockets, opens, checks and writes the device; handshake messages pass the load gate and go to the
//! control plane as [`Event`]s. The control plane calls the methods of `Tunnel` from its own thread.
//!
//! Tunnels without protection (GRE, IP in IP) and those in ESP share two threads of another kind: see [`carrier`].
//!
//! Locks, in the order in which they are taken: tables, a peer's state, indices, schedule. Each is held for a batch at most, never
//! across encryption or a system call that may wait.

mod bucket;
pub mod carrier;
mod drops;
mod event;
mod outbox;
mod peer;
mod receive;
mod schedule;
mod session;
mod shared;
mod slab;
pub mod sys;
mod transmit;
mod tunnel;

pub use drops::Drop;
pub use event::{Event, Events, Need, PathErrorKind, Source, MAX_MESSAGE};
pub use tunnel::{Error, Options, PeerCounters, Tunnel};

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A lock whose holder panicked is still taken: each update is small and leaves whole values, and the tunnel is being ended anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
