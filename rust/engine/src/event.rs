//! What the engine tells the control plane: one queue, one eventfd, drained in batches. Never data.
//!
//! Bounded without losing anything that matters: handshake messages are counted and refused beyond `MAX_QUEUED_HANDSHAKES`; every other event is
//! sent at most once until the control plane has acted on it, so there are at most a few per peer.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::lock;
use crate::sys::poll::Wake;

/// The longest message that reaches the control plane: a handshake initiation.
pub const MAX_MESSAGE: usize = 148;

/// Where a datagram came from, and to which of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub from: SocketAddr,
    pub to: Option<IpAddr>,
}

/// Why a session is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Data waits and there is no valid session.
    Packets,
    /// The session we initiated grows old.
    Ageing,
    /// Data was sent and nothing came back.
    Silent,
    /// A keepalive is due and there is no valid session.
    Keepalive,
}

#[derive(Clone, Debug)]
pub enum Event {
    Handshake {
        tunnel: u32,
        message: [u8; MAX_MESSAGE],
        len: usize,
        source: Source,
    },
    SessionNeeded {
        tunnel: u32,
        peer: u32,
        need: Need,
    },
    SessionConfirmed {
        tunnel: u32,
        peer: u32,
        index: u32,
    },
    EndpointChanged {
        tunnel: u32,
        peer: u32,
    },
    DeviceGone {
        tunnel: u32,
        reason: String,
    },
}

/// The queue; shared by all tunnels of an engine.
pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    pending: AtomicUsize,
    wake: Wake,
}

impl Events {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            pending: AtomicUsize::new(0),
            wake: Wake::new()?,
        })
    }

    /// Handshake messages that wait.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub fn push(&self, event: Event) {
        if matches!(event, Event::Handshake { .. }) {
            self.pending.fetch_add(1, Ordering::Relaxed);
        }
        let mut queue = lock(&self.queue);
        queue.push_back(event);
        if queue.len() == 1 {
            self.wake.signal();
        }
    }

    /// Takes up to *limit* events; the descriptor stays readable while more wait.
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        let mut queue = lock(&self.queue);
        let taken: Vec<Event> = {
            let count = queue.len().min(limit);
            queue.drain(..count).collect()
        };
        if queue.is_empty() {
            self.wake.clear();
        }
        drop(queue);
        let handshakes = taken
            .iter()
            .filter(|event| matches!(event, Event::Handshake { .. }))
            .count();
        self.pending.fetch_sub(handshakes, Ordering::Relaxed);
        taken
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
