//! What the engine tells the control plane: one queue, one eventfd, drained in batches. Never data.
//!
//! Bounded without losing anything that matters: handshake messages are counted and refused beyond `MAX_QUEUED_HANDSHAKES`; what plain tunnels tell of
//! the network is limited for each of them, and refused while `MAX_QUEUED_TOLD` wait; every other event is sent at most once until the control
//! plane has acted on it, so there are at most a few per peer.

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

/// Most events about packets of plain tunnels that wait: keepalives, path errors, mismatches.
pub const MAX_QUEUED_TOLD: usize = 4096;

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
    /// A GRE keepalive; `packet` is at most 128 bytes.
    Control {
        tunnel: u32,
        returned: bool,
        protocol: u16,
        packet: Vec<u8>,
    },
    PathError {
        tunnel: u32,
        kind: PathErrorKind,
        code: u8,
        mtu: u32,
        origin: Option<IpAddr>,
    },
    Mismatch {
        tunnel: u32,
        reason: &'static str,
        seen: Option<u32>,
        remote: IpAddr,
    },
}

/// What an ICMP error says of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathErrorKind {
    TooBig,
    Unreachable,
    TimeExceeded,
    Other,
}

impl Event {
    /// Whether it counts towards `MAX_QUEUED_TOLD`.
    fn is_told(&self) -> bool {
        matches!(
            self,
            Self::Control { .. } | Self::PathError { .. } | Self::Mismatch { .. }
        )
    }
}

/// The queue; shared by all tunnels of an engine.
pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    pending: AtomicUsize,
    told: AtomicUsize,
    wake: Wake,
}

impl Events {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            pending: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            wake: Wake::new()?,
        })
    }

    /// Handshake messages that wait.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether one more event about packets of plain tunnels may be pushed.
    pub fn takes_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) < MAX_QUEUED_TOLD
    }

    pub fn push(&self, event: Event) {
        if event.is_told() {
            self.told.fetch_add(1, Ordering::Relaxed);
        }
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
        let told = taken.iter().filter(|event| event.is_told()).count();
        self.told.fetch_sub(told, Ordering::Relaxed);
        taken
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
