//! WireGuard state that packets drive: pure machines, time as an argument.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `constants` | every number of the protocol |
//! | `replay` | is this counter new? |
//! | `allowed_ips` | which peer may use this address? |
//! | `timers` | when does data traffic call for a keepalive or a handshake? |
//! | `gate` | which handshake datagrams may cost the control plane its time? |
//! | `filter` | which datagrams may cost user space its time? (a program for the socket) |
//!
//! No I/O, no clock, no randomness and no `unsafe` here: the engine brings them.

#![forbid(unsafe_code)]

pub mod allowed_ips;
pub mod constants;
mod cookie;
pub mod filter;
pub mod gate;
mod heavy;
pub mod replay;
mod sources;
pub mod timers;
