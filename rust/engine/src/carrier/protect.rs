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
use std::sync::atomic::{AtomicU64, Ordering};
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

/// That there is no SA is told again after this time: whoever was to begin may have given up.
const MISSING_AGAIN_NS: u64 = 5_000_000_000;

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
    /// When it was told that there is no SA; 0: not yet.
    missing_ns: AtomicU64,
    moves: Mutex<Moves>,
}

impl Protect {
    pub fn new(bare: bool) -> Self {
        Self {
            bare,
            sending: Mutex::new(None),
            inbound: Mutex::new(Vec::new()),
            missing_ns: AtomicU64::new(0),
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
        self.missing_ns.store(0, Ordering::Relaxed);
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

    /// There is nothing to send by; told at once, and now and then for as long as packets come.
    pub fn tell_missing(&self, tunnel: u32, events: &Events, now_ns: u64) {
        let told_ns = self.missing_ns.load(Ordering::Relaxed);
        let again = now_ns.saturating_sub(told_ns) >= MISSING_AGAIN_NS;
        // The first is always told; others not while the control plane is behind.
        if told_ns == 0 || (again && events.takes_told()) {
            // The transmitting thread alone tells.
            self.missing_ns.store(now_ns.max(1), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ginnel_crypto::esp::Suite;
    use ginnel_esp::outer::Df;
    use ginnel_esp::sa::Limits;
    use ginnel_esp::selectors::Selectors;

    fn sending(spi: u32) -> Sending {
        let terms = Terms {
            spi,
            suite: Suite::parse("aes128gcm16").unwrap(),
            mode: Mode::Transport,
            esn: false,
            limits: Limits::default(),
            selectors: Selectors::default(),
        };
        let (key, none) = (
            KeyMaterial::from_slice(&[7; 20]),
            KeyMaterial::from_slice(&[]),
        );
        let local = IpAddr::from([192, 0, 2, 1]);
        Sending {
            sa: Arc::new(Outbound::new(terms, &key, &none, 0).unwrap()),
            path: Path {
                local,
                local_port: 4500,
                remote: SocketAddr::new(IpAddr::from([192, 0, 2, 2]), 4500),
            },
            rules: Rules {
                dscp: true,
                df: Df::Copy,
            },
            fwmark: 0,
            device: 0,
        }
    }

    /// What is dropped zeroes its keys (`ginnel-crypto` holds itself to that).
    #[test]
    fn an_sa_that_was_replaced_is_gone_when_the_last_visit_ends() {
        let protect = Protect::new(false);
        protect.set_sending(sending(1000));
        let visit = protect.sending().unwrap();
        let (first, spi) = (Arc::downgrade(&visit.sa), visit.sa.spi());
        protect.set_sending(sending(1001));
        assert_eq!(spi, 1000);
        assert_eq!(protect.sending().unwrap().sa.spi(), 1001);
        assert!(first.upgrade().is_some());
        drop(visit);
        assert!(first.upgrade().is_none());
        // Another path is the same SA.
        let second = Arc::downgrade(&protect.sending().unwrap().sa);
        let path = Path {
            remote: SocketAddr::new(IpAddr::from([192, 0, 2, 3]), 0),
            ..sending(0).path
        };
        assert!(protect.set_path(path));
        assert_eq!(protect.sending().unwrap().path, path);
        assert!(second.upgrade().is_some());
        protect.clear_sending();
        assert!(second.upgrade().is_none());
        assert!(!protect.set_path(path));
    }

    #[test]
    fn moves_are_told_once_a_place_and_seldom() {
        const SECOND: u64 = 1_000_000_000;
        let (events, protect) = (Events::new().unwrap(), Protect::new(true));
        let from = |last: u8, port| SocketAddr::new(IpAddr::from([192, 0, 2, last]), port);
        let told = |source, now_ns| {
            protect.came_from(1, 1000, source, &events, now_ns);
            events.drain(10).len()
        };
        assert_eq!(told(from(9, 4500), SECOND), 0, "nothing to compare with");
        protect.set_sending(sending(1000));
        assert_eq!(told(from(2, 4500), SECOND), 0);
        assert_eq!(told(from(2, 0), SECOND), 0, "raw: no port to compare");
        assert_eq!(told(from(2, 4501), SECOND), 1);
        assert_eq!(told(from(2, 4501), SECOND), 0);
        let flapping = (0..100).map(|at| told(from(2, 5000 + at % 2), 2 * SECOND));
        assert!(flapping.sum::<usize>() <= 2);
    }

    #[test]
    fn that_there_is_no_sa_is_told_at_once_then_now_and_then() {
        let (events, protect) = (Events::new().unwrap(), Protect::new(true));
        let told = |now_ns| {
            protect.tell_missing(1, &events, now_ns);
            events.drain(10).len()
        };
        assert_eq!((told(0), told(1)), (1, 0));
        protect.set_sending(sending(1000));
        protect.clear_sending();
        assert_eq!((told(2), told(3)), (1, 0));
        let every_s = (1..100).map(|second| told(second * 1_000_000_000));
        assert_eq!(every_s.sum::<usize>(), 19);
    }
}
