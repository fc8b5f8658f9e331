//! A link that misbehaves on purpose: the lab's stand-in for a wide-area path.
//!
//! `Relay` joins two interfaces, one `AF_PACKET` socket each, and carries every frame from one to the other through a `Path` a
//! direction, which loses, delays, reorders, duplicates or blocks it. One thread sleeps in epoll on both sockets, a timer
//! for the earliest frame that is due, and an eventfd that tells it to look at new settings or to end.
//!
//! Rules: what happens to a frame depends only on the seed, the direction and how many frames came before it, never on the clock;
//! frames in flight are bounded in number and in bytes; ARP, NDP and the like pass untouched, for a wide-area link has none.
//! Offloads must be off on the far ends (the lab sees to it): what is not a frame of a wire is dropped and counted.
//!
//! `path` and `frame` are pure; all unsafe is in `sys`.

pub mod frame;
pub mod path;
mod sys;
mod worker;

pub use path::Faults;
pub use worker::{Counters, Relay};
