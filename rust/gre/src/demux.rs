//! Which tunnel a packet is for: by local address, remote address and key, in Linux's order; and which it was nearly for.
//!
//! Order: (local, remote, key), (any, remote, key), (local, any, key), (any, any, key); among equals one bound to the packet's device
//! first. A tunnel with a key matches only packets with that key, one without only packets without.

use std::net::IpAddr;

use crate::options::Options;

/// What a packet shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub key: Option<u32>,
    /// Ethernet inside (a gretap and a gre tunnel may have the same ends).
    pub ethernet: bool,
    /// Protocol of the delivery header: 47, 4 or 41; GRE in UDP counts as 47 and is told apart by `udp`.
    pub protocol: u8,
    pub udp: bool,
    pub device: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Tunnel(T),
    /// No tunnel; but this one has the same ends and expects another key (or none, or one).
    WrongKey(T),
    None,
}

/// The tunnels of one process.
#[derive(Debug, Default)]
pub struct Demux<T> {
    _tunnels: Vec<T>,
}

impl<T: Copy + PartialEq> Demux<T> {
    pub fn new() -> Self {
        Self {
            _tunnels: Vec::new(),
        }
    }

    /// Err with the tunnel that is there already when two could not be told apart.
    pub fn insert(&mut self, _options: &Options, _tunnel: T) -> Result<(), T> {
        unimplemented!()
    }

    pub fn remove(&mut self, _tunnel: T) {
        unimplemented!()
    }

    /// One hash lookup for each of the four levels that has any tunnel; no allocation.
    pub fn find(&self, _seen: &Seen) -> Found<T> {
        unimplemented!()
    }
}
