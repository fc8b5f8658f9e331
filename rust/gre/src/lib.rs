//! Encapsulation without protection: GRE, and IP in IP. Pure functions and small tables over bytes; time is an argument.
//!
//! | step | module |
//! | --- | --- |
//! | what a tunnel is: its kind, its ends, its options | [`options`] |
//! | the GRE header: parse, write, checksum | [`header`] |
//! | which tunnel a packet is for, and which it was nearly for | [`demux`] |
//! | may it come in: key, checksum, sequence, protocol, inner form | [`receive`] |
//! | the delivery header that goes in front: TTL, TOS, ECN, DF, flow label | [`outer`] |
//! | too large for the path: fragment, or answer | [`oversize`] |
//! | what an ICMP error quotes | [`quoted`] |
//! | keepalives of both dialects, told from data | [`keepalive`] |
//!
//! What is accepted and what is dropped is what Linux does; where we differ, the place says so and why.

#![forbid(unsafe_code)]

pub mod demux;
pub mod header;
pub mod keepalive;
pub mod options;
pub mod outer;
pub mod oversize;
pub mod quoted;
pub mod receive;
