//! What the control plane and the two threads of a tunnel share, and the few steps that each of them takes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use ginnel_wireguard::allowed_ips::Table;
use ginnel_wireguard::gate::Gate;

use crate::drops::Drops;
use crate::event::{Event, Events, Need, Source};
use crate::peer::{Peer, State};
use crate::schedule::Schedule;
use crate::session::Session;
use crate::sys::poll::Wake;
use crate::sys::tun::Tun;
use crate::sys::udp::Pair;
use crate::tunnel::Error;
use crate::{lock, read, write};

/// Our ids and indices are made by us (counted, or random), so they need no hashing against collisions.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // Fibonacci multiplier: hashbrown takes the top seven bits as well as the low ones.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = u64::from(value);
    }
}

pub(crate) type IdMap<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

/// What changes together under configuration.
pub(crate) struct Tables {
    pub peers: IdMap<Arc<Peer>>,
    pub allowed: Table<u32>,
}

/// Whose index it is: of a handshake under way (no session), or of a session.
pub(crate) struct IndexEntry {
    pub peer: Arc<Peer>,
    pub session: Option<Arc<Session>>,
}

/// What the control plane and the two threads share.
pub(crate) struct Shared {
    pub id: u32,
    pub name: String,
    /// Each thread holds the device while it runs; `close` lets go of ours, and with the last holder the device is deleted.
    pub device: Mutex<Option<Arc<Tun>>>,
    pub mtu: AtomicUsize,
    pub tables: RwLock<Tables>,
    pub indices: RwLock<IdMap<IndexEntry>>,
    pub sockets: RwLock<Option<Arc<Pair>>>,
    /// Changes when `sockets` does, so that the receiving thread polls the new ones.
    pub sockets_generation: AtomicU64,
    pub gate: Mutex<Gate>,
    pub has_private_key: AtomicBool,
    pub events: Arc<Events>,
    pub drops: Drops,
    pub schedule: Schedule,
    /// Peers whose staged packets can go out; taken by the transmitting thread.
    pub dirty: Mutex<Vec<u32>>,
    pub dirty_flag: AtomicBool,
    pub transmit_wake: Wake,
    pub receive_wake: Wake,
    pub stop: AtomicBool,
    /// Writing coalesced packets to the device was refused.
    pub coalesce_refused: AtomicBool,
}

impl Shared {
    pub fn peer(&self, peer: u32) -> Result<Arc<Peer>, Error> {
        read(&self.tables)
            .peers
            .get(&peer)
            .cloned()
            .ok_or(Error::NoPeer(peer))
    }

    /// Puts the peer's next deadline into the schedule when it comes before the entry the peer has.
    pub fn arm(&self, peer: &Peer, state: &mut State) {
        let deadline_ns = state.timers.next_deadline();
        if deadline_ns != 0
            && !state.removed
            && (state.scheduled_ns == 0 || deadline_ns < state.scheduled_ns)
        {
            let replaced_ns = std::mem::replace(&mut state.scheduled_ns, deadline_ns);
            if self.schedule.push(deadline_ns, peer.id, replaced_ns) {
                self.transmit_wake.signal();
            }
        }
    }

    /// Asks the control plane for a handshake, once.
    pub fn ask(&self, peer: &Peer, state: &mut State, need: Need) {
        if state.asked.is_none() && !state.removed {
            state.asked = Some(need);
            self.events.push(Event::SessionNeeded {
                tunnel: self.id,
                peer: peer.id,
                need,
            });
        }
    }

    /// The staged packets of the peer may go: the transmitting thread will see to it.
    pub fn mark_dirty(&self, peer: u32) {
        lock(&self.dirty).push(peer);
        self.dirty_flag.store(true, Ordering::Release);
        self.transmit_wake.signal();
    }

    /// An authenticated message came from *source*: replies go there from now on.
    pub fn roam(&self, peer: &Peer, state: &mut State, source: Source) {
        if state.removed {
            return;
        }
        if state.endpoint != Some(source.from) {
            state.endpoint = Some(source.from);
            if !peer.endpoint_announced.swap(true, Ordering::Relaxed) {
                self.events.push(Event::EndpointChanged {
                    tunnel: self.id,
                    peer: peer.id,
                });
            }
        }
        state.source = source.to;
    }

    pub fn forget_indices(&self, sessions: impl IntoIterator<Item = Arc<Session>>) {
        let mut indices = None;
        for session in sessions {
            indices
                .get_or_insert_with(|| write(&self.indices))
                .remove(&session.local_index);
        }
    }

    pub fn sockets(&self) -> Option<Arc<Pair>> {
        read(&self.sockets).clone()
    }

    /// EBADFD once the tunnel is closed, as from a device that was deleted.
    pub fn device(&self) -> io::Result<Arc<Tun>> {
        lock(&self.device)
            .clone()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADFD))
    }
}

/// The kernel says so when the sticky source is not (or no longer) an address of this host.
pub(crate) fn is_source_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENETUNREACH)
    )
}

pub(crate) fn is_device_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADFD | libc::ENODEV | libc::ENXIO)
    )
}
