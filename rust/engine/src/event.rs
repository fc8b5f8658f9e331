//! What the engine tells the control plane: one queue, one eventfd, drained in batches. Never data.
//!
//! Bounded without losing anything that matters: handshake messages are counted and refused beyond `MAX_QUEUED_HANDSHAKES`; what plain tunnels tell of
//! the network is limited for each of them, and refused while `MAX_QUEUED_TOLD` wait; of IKE messages `MAX_QUEUED_IKE` wait, and a source may
//! have no more of them than half of what is still free, so that the first message of another always finds room; messages with which
//! an IKE SA begins, which cost the most and need nothing but an invented source, have half of the room, so that what belongs to IKE SAs that
//! there are finds some in any flood of them; every other event is sent at most once until the control plane has acted on it, so there are at
//! most a few per peer.

use std::collections::{HashMap, VecDeque};
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

/// Most IKE messages that wait; one of more than `IKE_UNIT` bytes counts for several.
pub const MAX_QUEUED_IKE: usize = 4096;

/// So the messages that wait hold 4 MiB at most.
const IKE_UNIT: usize = 1024;

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
    /// A datagram on an IKE port, without the non-ESP marker: see `push_ike`.
    Ike {
        message: Vec<u8>,
        remote: SocketAddr,
        local: IpAddr,
        natt: bool,
    },
    /// The first genuine packet came in under this SA.
    SaUsed {
        tunnel: u32,
        spi: u32,
    },
    SaExpiring {
        tunnel: u32,
        spi: u32,
        inbound: bool,
        hard: bool,
    },
    SaMissing {
        tunnel: u32,
    },
    /// Genuine packets come from elsewhere; port 0 of raw ESP.
    SaMoved {
        tunnel: u32,
        spi: u32,
        remote: SocketAddr,
    },
    UnknownSpi {
        spi: u32,
        remote: SocketAddr,
        local: IpAddr,
        natt: bool,
    },
}

/// Why an IKE message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IkeRefused {
    /// This source has its share already.
    BeyondShare,
    Full,
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
            Self::Control { .. }
                | Self::PathError { .. }
                | Self::Mismatch { .. }
                | Self::SaMoved { .. }
                | Self::UnknownSpi { .. }
        )
    }
}

/// What of it is for messages with which an IKE SA begins.
const MAX_QUEUED_BEGINNINGS: usize = MAX_QUEUED_IKE / 2;

/// IKE messages that wait, by where they came from.
#[derive(Default)]
struct Waiting {
    units: usize,
    beginnings: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Whoever has one address of a network of IPv6 mostly has all of its 64 bits.
fn source_of(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V4(_) => remote,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

fn units(message: &[u8]) -> usize {
    message.len().div_ceil(IKE_UNIT).max(1)
}

/// Whether an IKE SA begins with it: the responder has no SPI yet (RFC 7296 3.1).
fn is_beginning(message: &[u8]) -> bool {
    message.get(8..16).is_none_or(|spi| spi == [0; 8])
}

impl Waiting {
    fn admit(&mut self, remote: IpAddr, message: &[u8]) -> Result<(), IkeRefused> {
        let units = units(message);
        let beginnings = if is_beginning(message) { units } else { 0 };
        let mut free = MAX_QUEUED_IKE.saturating_sub(self.units);
        if beginnings > 0 {
            free = free.min(MAX_QUEUED_BEGINNINGS.saturating_sub(self.beginnings));
        }
        if units > free {
            return Err(IkeRefused::Full);
        }
        let source = source_of(remote);
        let has = self.by_source.get(&source).copied().unwrap_or(0);
        // The first always, whatever others have.
        if has > 0 && has + units > free / 2 {
            return Err(IkeRefused::BeyondShare);
        }
        self.units += units;
        self.beginnings += beginnings;
        self.by_source.insert(source, has + units);
        Ok(())
    }

    fn release(&mut self, remote: IpAddr, message: &[u8]) {
        let units = units(message);
        self.units = self.units.saturating_sub(units);
        if is_beginning(message) {
            self.beginnings = self.beginnings.saturating_sub(units);
        }
        let source = source_of(remote);
        if let Some(has) = self.by_source.get_mut(&source) {
            *has = has.saturating_sub(units);
            if *has == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

/// The queue; shared by all tunnels of an engine.
pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    pending: AtomicUsize,
    told: AtomicUsize,
    ike: Mutex<Waiting>,
    wake: Wake,
}

impl Events {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            pending: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            ike: Mutex::new(Waiting::default()),
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

    /// Queues an IKE message if its source may have one more of the queue.
    pub fn push_ike(
        &self,
        message: &[u8],
        remote: SocketAddr,
        local: IpAddr,
        natt: bool,
    ) -> Result<(), IkeRefused> {
        lock(&self.ike).admit(remote.ip(), message)?;
        self.push(Event::Ike {
            message: message.to_vec(),
            remote,
            local,
            natt,
        });
        Ok(())
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
        for event in &taken {
            if let Event::Ike {
                message, remote, ..
            } = event
            {
                lock(&self.ike).release(remote.ip(), message);
            }
        }
        taken
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 500)
    }

    fn flood(events: &Events, remote: SocketAddr, message: &[u8]) -> usize {
        (0..2 * MAX_QUEUED_IKE)
            .take_while(|_| {
                let local = remote.ip();
                events.push_ike(message, remote, local, false).is_ok()
            })
            .count()
    }

    #[test]
    fn a_flood_of_one_source_leaves_room_for_every_other() {
        let events = Events::new().unwrap();
        let flooded = flood(&events, from("192.0.2.1"), &[1; 100]);
        assert!((1000..MAX_QUEUED_IKE / 2).contains(&flooded), "{flooded}");
        let begun = flood(&events, from("192.0.2.250"), &[0; 100]);
        assert!((500..MAX_QUEUED_BEGINNINGS / 2).contains(&begun), "{begun}");
        // A second flood gets less, and somebody new still gets in.
        let second = flood(&events, from("192.0.2.2"), &[1; 100]);
        assert!((500..flooded).contains(&second), "{second}");
        for last in 3..200 {
            let remote = from(&format!("192.0.2.{last}"));
            assert_eq!(events.push_ike(&[0; 28], remote, remote.ip(), true), Ok(()));
        }
    }

    #[test]
    fn one_network_of_ipv6_is_one_source_and_long_messages_count_for_more() {
        let events = Events::new().unwrap();
        let one = flood(&events, from("2001:db8::1"), &[1; 100]);
        assert!(one > 1000);
        let beyond = Err(IkeRefused::BeyondShare);
        let other = from("2001:db8::2");
        assert_eq!(events.push_ike(&[0; 100], other, other.ip(), false), beyond);
        let next = from("2001:db8:0:1::1");
        assert_eq!(events.push_ike(&[0; 100], next, next.ip(), false), Ok(()));
        let events = Events::new().unwrap();
        let long = flood(&events, from("192.0.2.1"), &[0; 16 << 10]);
        assert!(long < MAX_QUEUED_IKE / 16 / 2, "{long}");
    }

    #[test]
    fn what_was_drained_makes_room_again() {
        let events = Events::new().unwrap();
        let remote = from("192.0.2.1");
        let first = flood(&events, remote, &[0; 2000]);
        while !events.drain(256).is_empty() {}
        assert_eq!(flood(&events, remote, &[0; 2000]), first);
        assert_eq!(lock(&events.ike).by_source.len(), 1);
        while !events.drain(256).is_empty() {}
        assert!(lock(&events.ike).by_source.is_empty());
        assert_eq!(lock(&events.ike).units, 0);
    }

    /// The most sources that there can be: each has one, and then nobody has room.
    #[test]
    fn the_queue_is_bounded_however_many_sources_there_are() {
        let events = Events::new().unwrap();
        let outcome = |at: usize, message: &[u8]| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + at as u32);
            let remote = SocketAddr::new(address.into(), 500);
            events.push_ike(message, remote, remote.ip(), false)
        };
        let (begins, goes_on) = ([0; 28], [1; 28]);
        let half = MAX_QUEUED_IKE / 2;
        assert!((0..half).all(|at| outcome(at, &begins) == Ok(())));
        // Beginnings leave room for what belongs to IKE SAs that there are.
        assert_eq!(outcome(half, &begins), Err(IkeRefused::Full));
        assert!((half..MAX_QUEUED_IKE).all(|at| outcome(at, &goes_on) == Ok(())));
        assert_eq!(outcome(MAX_QUEUED_IKE, &goes_on), Err(IkeRefused::Full));
        while !events.drain(256).is_empty() {}
        assert_eq!(outcome(half, &begins), Ok(()));
        assert_eq!(lock(&events.ike).beginnings, 1);
    }
}
