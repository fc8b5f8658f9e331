//! Plain and protected tunnels: GRE and IP in IP without protection or in ESP, and ESP alone; all of a process carried by two threads.
//!
//! | file | idea |
//! | --- | --- |
//! | `tunnel`, `associations` | one tunnel as the control plane drives it, and its SAs |
//! | `plain` | the same as the two threads know it: where its packets go, its counters, what is told of it |
//! | `protect` | the SAs of a protected tunnel |
//! | `seal` | encapsulated packets of a visit -> one batch under an SA -> outbox |
//! | `open` | ESP packets of a turn -> tunnel, SA, opened as batches -> what they bring |
//! | `ike` | the sockets of IKE and of ESP |
//! | `sockets` | sockets shared by underlay, opened by the first tunnel that needs them, closed by the last |
//! | `transmit` | devices -> size, encapsulation -> outbox: one epoll over all devices |
//! | `outbox` | finished packets -> sockets, and what the kernel says against them |
//! | `receive` | sockets -> tunnel, checks -> devices |
//! | `errors` | ICMP errors -> the tunnels they are about |
//! | `unfinished` | what a kernel left to do in a packet that it thought would leave by a network card |
//! | `slab` | where a turn's packets lie |
//! | `drops` | why packets are dropped |
//!
//! Theory. A WireGuard tunnel has two threads because encryption is work; a plain tunnel is mostly system calls, and somebody who has one has
//! perhaps a thousand. So they share: a turn takes what is ready of any of them and sends it together, and what a packet costs does not
//! depend on how many tunnels there are. Nothing walks over all tunnels but configuration and (limited) ICMP errors.
//!
//! Encapsulation (`transmit`) and sending (`outbox`) are apart: protection (`seal`) comes between them, and on the way in (`open`) before the
//! checks of the encapsulation, which are the same for both.
//!
//! What is for none of our tunnels is counted and otherwise left alone. We never answer it with ICMP port-unreachable as the kernel's GRE does:
//! raw sockets see copies of packets that may well be another program's.
//!
//! Locks, in the order in which they are taken: the registry of sockets, tables, one of a tunnel's. Each is held for a batch at most.

mod associations;
mod drops;
mod errors;
mod ike;
mod open;
mod outbox;
mod plain;
mod protect;
mod receive;
mod seal;
mod slab;
mod sockets;
mod transmit;
mod tunnel;
mod unfinished;

pub use associations::AssociationCounters;
pub use drops::PlainDrop;
pub use ike::{IkeOptions, IkePorts};
pub use protect::{Association, Path};
pub use tunnel::{PlainCounters, PlainError, PlainOptions, PlainTunnel};

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use ginnel_esp::spi::Spis;
use ginnel_gre::demux::Demux;

use crate::event::{Event, Events};
use crate::shared::IdMap;
use crate::sys::poll::{Poll, Wake};
use crate::sys::tun::OpenError;
use crate::{lock, read, write};

/// The tag of a wake in either poll; tunnels and sockets have others.
const TAG_WAKE: u64 = 0;
/// Threads that close many tunnels together, and how many one closes at least.
const CLOSING_THREADS: usize = 32;
const CLOSED_ALONE: usize = 4;
/// Packets of the control plane that wait to be sent.
const MAX_CONTROLS: usize = 1024;

/// The tunnels, and how a packet finds its own.
pub(crate) struct Tables {
    /// A protected tunnel is in it as well, to know what should have been protected.
    pub demux: Demux<u32>,
    pub spis: Spis<protect::Owner>,
    pub tunnels: IdMap<Arc<plain::Plain>>,
}

/// A packet of the control plane on its way to the transmitting thread, which alone sends.
pub(crate) struct Control {
    pub tunnel: u32,
    pub packet: ControlPacket,
}

pub(crate) enum ControlPacket {
    /// To be encapsulated under this protocol type.
    Inside { protocol: u16, payload: Vec<u8> },
    /// A whole IP packet, to be sent as it is.
    Finished(Vec<u8>),
}

/// What the control plane and the two threads share.
pub(crate) struct Shared {
    pub events: Arc<Events>,
    pub tables: RwLock<Tables>,
    pub sockets: Mutex<sockets::Registry>,
    /// By tag in `receive_poll`.
    pub receivers: RwLock<IdMap<Arc<sockets::Socket>>>,
    /// While they are open.
    pub ike: RwLock<Option<Arc<ike::Ports>>>,
    pub transmit_poll: Poll,
    pub receive_poll: Poll,
    pub transmit_wake: Wake,
    pub receive_wake: Wake,
    pub controls: Mutex<VecDeque<Control>>,
    pub stop: AtomicBool,
    pub no_tunnel: AtomicU64,
    pub at_socket: AtomicU64,
}

impl Shared {
    pub fn tunnel(&self, id: u32) -> Option<Arc<plain::Plain>> {
        read(&self.tables).tunnels.get(&id).cloned()
    }

    pub fn stop_receiving(&self, tags: &[u32]) {
        let mut receivers = write(&self.receivers);
        for tag in tags {
            if let Some(socket) = receivers.remove(tag) {
                // It cannot fail: the socket is open and was added.
                let _ = self.receive_poll.remove(socket.fd());
            }
        }
    }

    /// ENOBUFS when too many wait.
    pub fn queue_control(&self, control: Control) -> io::Result<()> {
        let mut controls = lock(&self.controls);
        if controls.len() >= MAX_CONTROLS {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        controls.push_back(control);
        drop(controls);
        self.transmit_wake.signal();
        Ok(())
    }
}

/// What concerns no single tunnel.
#[derive(Clone, Debug)]
pub struct CarrierCounters {
    /// Packets of our protocols that no tunnel here is for.
    pub no_tunnel: u64,
    /// Dropped by the kernel because a socket's buffer was full.
    pub at_socket: u64,
    /// Each socket, and how it fares.
    pub sockets: Vec<(String, String)>,
}

/// The two threads that carry all plain tunnels of an engine.
pub struct Carrier {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// A forked child has our memory but not our threads.
    process: u32,
}

impl Carrier {
    pub fn start(events: Arc<Events>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            events,
            tables: RwLock::new(Tables {
                demux: Demux::new(),
                spis: Spis::default(),
                tunnels: IdMap::default(),
            }),
            sockets: Mutex::new(sockets::Registry::default()),
            receivers: RwLock::new(IdMap::default()),
            ike: RwLock::new(None),
            transmit_poll: Poll::new()?,
            receive_poll: Poll::new()?,
            transmit_wake: Wake::new()?,
            receive_wake: Wake::new()?,
            controls: Mutex::new(VecDeque::new()),
            stop: AtomicBool::new(false),
            no_tunnel: AtomicU64::new(0),
            at_socket: AtomicU64::new(0),
        });
        let wakes = [
            (&shared.transmit_poll, &shared.transmit_wake),
            (&shared.receive_poll, &shared.receive_wake),
        ];
        for (poll, wake) in wakes {
            poll.add(wake.as_raw_fd(), TAG_WAKE)?;
        }
        let carrier = Self {
            shared,
            threads: Mutex::new(Vec::new()),
            process: std::process::id(),
        };
        for (name, body) in [
            (
                "ginnel-plain-tx",
                transmit::run as fn(&Arc<Shared>) -> io::Result<()>,
            ),
            ("ginnel-plain-rx", receive::run),
        ] {
            let shared = carrier.shared.clone();
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || supervise(&shared, name, body))?;
            lock(&carrier.threads).push(thread);
        }
        Ok(carrier)
    }

    /// Makes (or adopts) the device and the tunnel on it; down until `up`.
    pub fn open(&self, id: u32, options: PlainOptions) -> Result<PlainTunnel, PlainError> {
        PlainTunnel::open(self.shared.clone(), id, options, self.process)
    }

    /// The sockets of IKE and ESP.
    pub fn ike(&self, options: IkeOptions) -> Result<IkePorts, OpenError> {
        IkePorts::open(self.shared.clone(), options, self.process)
    }

    pub fn counters(&self) -> CarrierCounters {
        let mut sockets = lock(&self.shared.sockets).describe();
        if let Some(ports) = &*read(&self.shared.ike) {
            sockets.extend(ports.describe());
        }
        CarrierCounters {
            no_tunnel: self.shared.no_tunnel.load(Ordering::Relaxed),
            at_socket: self.shared.at_socket.load(Ordering::Relaxed),
            sockets,
        }
    }

    /// Closes many tunnels. The kernel waits for each device that it deletes (some 20 ms, mostly for other processors to notice), and waits for
    /// several at a time as long as for one: so several are closed at a time.
    pub fn close_all(tunnels: &[Arc<PlainTunnel>]) {
        let share = tunnels.len().div_ceil(CLOSING_THREADS).max(CLOSED_ALONE);
        std::thread::scope(|scope| {
            for some in tunnels.chunks(share) {
                let close = move || {
                    for tunnel in some {
                        tunnel.close();
                    }
                };
                // Without threads to be had it takes longer.
                if std::thread::Builder::new()
                    .name("ginnel-closing".to_owned())
                    .spawn_scoped(scope, close)
                    .is_err()
                {
                    close();
                }
            }
        });
    }

    /// Ends both threads, once the tunnels are closed; idempotent. Nothing in a forked child: see `Tunnel::close`.
    pub fn close(&self) {
        if std::process::id() != self.process {
            return;
        }
        self.shared.stop.store(true, Ordering::Release);
        self.shared.transmit_wake.signal();
        self.shared.receive_wake.signal();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has reported it already.
            let _ = thread.join();
        }
    }
}

impl std::ops::Drop for Carrier {
    fn drop(&mut self) {
        self.close();
    }
}

/// A thread that ends takes all tunnels with it; each of them says so.
fn supervise(shared: &Arc<Shared>, name: &str, body: fn(&Arc<Shared>) -> io::Result<()>) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(shared)));
    let reason = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{name}: {error}"),
        Err(_) => format!("{name} panicked: a bug, please report it"),
    };
    if !shared.stop.swap(true, Ordering::AcqRel) {
        shared.transmit_wake.signal();
        shared.receive_wake.signal();
        for tunnel in read(&shared.tables).tunnels.keys() {
            shared.events.push(Event::DeviceGone {
                tunnel: *tunnel,
                reason: reason.clone(),
            });
        }
    }
}
