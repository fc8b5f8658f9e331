//! The SAs of one protected tunnel: one that sends, up to four that receive, and what is told of them.
//!
//! ```text
//!              transport                          tunnel                               bare, tunnel
//! raw          IP 50 | ESP | GRE | inner          IP 50 | ESP | IP 47 | GRE | inner    IP 50 | ESP | inner
//! in UDP       (UDP) | ESP | GRE | inner          (UDP) | ESP | IP 47 | GRE | inner    (UDP) | ESP | inner
//! ```
//! (IP in IP: without GRE. *bare* is a tunnel with no encapsulation but ESP's own. UDP's headers are the kernel's.)
//!
//! Rules. Nothing leaves but under the SA that sends, and nothing comes in but under one that receives: there is no other way through
//! this file, whatever happens to the SAs. The thread that sends takes the SA once a visit, so that a new one takes over between two
//! packets and none is lost; the old one's keys are zeroed when whoever still holds it lets go, at the end of that visit. A packet
//! finds its tunnel by SPI alone, never by address: who is behind a NAT may come from anywhere. Where packets go is the control plane's
//! decision; that they come from elsewhere is told, and only of genuine ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ginnel_crypto::KeyMaterial;
use ginnel_esp::inbound::{Inbound, Refusal};
use ginnel_esp::layout;
use ginnel_esp::outbound::Outbound;
use ginnel_esp::outer::{self, Rules};
use ginnel_esp::sa::{Expiring, Mode, Terms};

use super::drops::PlainDrop;
use super::plain::Plan;
use super::slab::{Room, Trailer};
use crate::bucket::Bucket;
use crate::event::{Event, Events};
use crate::lock;

/// Of one tunnel: an SA and its successor, and the same again while both ends rekey at once.
pub const MAX_INBOUND: usize = 4;
/// Of a peer that moves all the time only so many moves are told, in a second and at once.
const MOVES_PER_S: u64 = 2;

/// Where an SA's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub local: IpAddr,
    /// In UDP, that of NAT traversal.
    pub local_port: u16,
    /// Port 0: raw protocol 50; else in UDP.
    pub remote: SocketAddr,
}

impl Path {
    pub fn in_udp(&self) -> bool {
        self.remote.port() != 0
    }
}

/// One SA with its keys, as the control plane gives it.
pub struct Association {
    pub terms: Terms,
    pub key: KeyMaterial,
    pub integrity: KeyMaterial,
    /// Numbers up to this one are used up (0: a new SA).
    pub sequence: u64,
}

/// The SA by which packets leave, and where they go.
pub(crate) struct Sending {
    pub sa: Arc<Outbound>,
    pub path: Path,
    /// Of the delivery header in tunnel mode.
    pub rules: Rules,
    /// Those of the sockets, for the choice of a route.
    pub fwmark: u32,
    pub device: u32,
}

/// What a tunnel puts around each packet under one SA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub mode: Mode,
    /// Bytes of ESP's delivery header; 0 in UDP.
    pub outer: usize,
    /// Bytes of ESP before the payload.
    pub esp: usize,
    /// Bytes of encapsulation in the payload.
    pub inside: usize,
}

impl Sending {
    pub fn shape(&self, plan: &Plan, bare: bool) -> Shape {
        Shape {
            mode: self.sa.mode(),
            outer: if self.path.in_udp() {
                0
            } else {
                outer::len(self.path.local.is_ipv6())
            },
            esp: layout::headroom(self.sa.suite()),
            inside: match (bare, self.sa.mode()) {
                (true, _) => 0,
                (false, Mode::Transport) => plan.options.gre_len(),
                (false, Mode::Tunnel) => plan.headroom,
            },
        }
    }

    /// Around an inner packet; for one that is encapsulated already see `room_finished`.
    pub fn room(&self, shape: &Shape) -> Room {
        self.room_around(shape, shape.inside)
    }

    /// Around what is encapsulated already.
    pub fn room_finished(&self, shape: &Shape) -> Room {
        self.room_around(shape, 0)
    }

    fn room_around(&self, shape: &Shape, inside: usize) -> Room {
        Room {
            before: shape.outer + shape.esp + inside,
            trailer: Some(Trailer {
                suite: self.sa.suite(),
                inside,
            }),
        }
    }
}

/// Whose an SPI is.
pub(crate) struct Owner {
    pub tunnel: u32,
    pub sa: Arc<Inbound>,
}

struct Moves {
    /// What was told last.
    told: Option<SocketAddr>,
    bucket: Bucket,
}

/// What the threads know of a tunnel's protection.
pub(crate) struct Protect {
    /// No encapsulation but ESP's.
    pub bare: bool,
    sending: Mutex<Option<Arc<Sending>>>,
    /// Oldest first.
    pub(super) inbound: Mutex<Vec<Arc<Inbound>>>,
    /// That there is no SA was told.
    missing: AtomicBool,
    moves: Mutex<Moves>,
}

impl Protect {
    pub fn new(bare: bool) -> Self {
        Self {
            bare,
            sending: Mutex::new(None),
            inbound: Mutex::new(Vec::new()),
            missing: AtomicBool::new(false),
            moves: Mutex::new(Moves {
                told: None,
                bucket: Bucket::new(MOVES_PER_S, MOVES_PER_S),
            }),
        }
    }

    pub fn sending(&self) -> Option<Arc<Sending>> {
        lock(&self.sending).clone()
    }

    pub fn set_sending(&self, sending: Sending) {
        let old = lock(&self.sending).replace(Arc::new(sending));
        self.missing.store(false, Ordering::Relaxed);
        self.forget_move();
        // Behind the lock: its keys may be zeroed here.
        drop(old);
    }

    /// The same SA by another path; false without one.
    pub fn set_path(&self, path: Path) -> bool {
        let mut sending = lock(&self.sending);
        let Some(old) = sending.take() else {
            return false;
        };
        *sending = Some(Arc::new(Sending {
            sa: old.sa.clone(),
            path,
            ..*old
        }));
        drop(sending);
        self.forget_move();
        true
    }

    pub fn clear_sending(&self) {
        let old = lock(&self.sending).take();
        drop(old);
    }

    /// There is nothing to send by; told once until there is.
    pub fn tell_missing(&self, tunnel: u32, events: &Events) {
        if !self.missing.swap(true, Ordering::Relaxed) {
            events.push(Event::SaMissing { tunnel });
        }
    }

    fn forget_move(&self) {
        lock(&self.moves).told = None;
    }

    /// A genuine packet came from *source*: if that is not where ours go, it is told, once for each place.
    pub fn came_from(
        &self,
        tunnel: u32,
        spi: u32,
        source: SocketAddr,
        events: &Events,
        now_ns: u64,
    ) {
        let Some(sending) = self.sending() else {
            return;
        };
        let at = sending.path.remote;
        // One end may send in UDP and the other not: then ports say nothing.
        let comparable = (at.port() == 0) == (source.port() == 0);
        if at.ip() == source.ip() && (at.port() == source.port() || !comparable) {
            return;
        }
        let mut moves = lock(&self.moves);
        if moves.told == Some(source) || !events.takes_told() || !moves.bucket.take(now_ns) {
            return;
        }
        moves.told = Some(source);
        drop(moves);
        events.push(Event::SaMoved {
            tunnel,
            spi,
            remote: source,
        });
    }
}

pub(crate) fn tell_expiring(
    tunnel: u32,
    spi: u32,
    inbound: bool,
    expiring: Option<Expiring>,
    events: &Events,
) {
    if let Some(expiring) = expiring {
        events.push(Event::SaExpiring {
            tunnel,
            spi,
            inbound,
            hard: expiring == Expiring::Hard,
        });
    }
}

/// A refusal of an SA as the tunnel's counters have it.
pub(crate) fn reason(refusal: Refusal) -> PlainDrop {
    match refusal {
        Refusal::Replayed => PlainDrop::Replayed,
        Refusal::TooOld => PlainDrop::TooOld,
        Refusal::BadIcv => PlainDrop::BadIcv,
        Refusal::Malformed => PlainDrop::EspMalformed,
        Refusal::WrongMode => PlainDrop::WrongMode,
        Refusal::Selectors => PlainDrop::Selectors,
        Refusal::Expired => PlainDrop::ExpiredSa,
        Refusal::Ecn => PlainDrop::Ecn,
        Refusal::Dummy => PlainDrop::Dummy,
    }
}
