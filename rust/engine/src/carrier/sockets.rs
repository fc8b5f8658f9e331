//! The sockets of all plain tunnels of a process: shared by those with the same underlay, opened by the first, closed by the last.
//!
//! | what | one for each |
//! | --- | --- |
//! | raw, receiving | family and protocol: a second one would get copies of the same packets. Which device a packet came by is told with it |
//! | raw, sending | family, fwmark, device |
//! | UDP | family, port, fwmark, device: both receiving and sending |
//!
//! Two UDP sockets of ours on one port (tunnels with different fwmarks) share it by SO_REUSEPORT, which is asked for only after the first of
//! them was bound without it: a port that another program has is refused, and nobody's port is joined. Which of them a packet comes by does
//! not matter, one thread reads all. Whether packets may be fragmented is a state of the socket that the sending thread changes when the next
//! batch wants it otherwise, so that it needs no sockets of its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ginnel_gre::options::{Kind, Options};

use super::ike::{Family, Place, Ports};
use super::Shared;
use crate::sys::raw::{RawReceive, RawSend};
use crate::sys::udp::{Binding, Udp};
use crate::{lock, write};

/// Source ports of one underlay with flow entropy: enough to spread over links, few enough to open for it.
const ENTROPY_PORTS: usize = 16;
/// RFC 8086 3.2: the ports for private use.
const ENTROPY_RANGE: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// Ports tried for one of them.
const ENTROPY_ATTEMPTS: usize = 64;
/// How long closing waits for a thread to let go of a socket.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is read by the receiving thread.
pub(crate) enum Socket {
    Raw {
        socket: RawReceive,
        protocol: u8,
    },
    Udp(Arc<Udp>),
    /// IKE's and ESP's: `ike`.
    Port {
        ports: Arc<Ports>,
        family: Arc<Family>,
        place: Place,
    },
}

impl Socket {
    /// Whether each packet is a message of its own.
    pub fn is_raw(&self) -> bool {
        matches!(
            self,
            Self::Raw { .. }
                | Self::Port {
                    place: Place::Esp,
                    ..
                }
        )
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Self::Raw { socket, .. } => socket.as_raw_fd(),
            Self::Udp(socket) => socket.as_raw_fd(),
            Self::Port { family, place, .. } => family.fd(*place),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RawKey {
    v6: bool,
    protocol: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SendKey {
    v6: bool,
    fwmark: u32,
    device: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct UdpKey {
    v6: bool,
    /// 0: the pool of ports for entropy.
    port: u16,
    fwmark: u32,
    device: u32,
    offload: bool,
}

struct Open<T> {
    value: T,
    users: usize,
    /// In `Shared::receivers`.
    tags: Vec<u32>,
}

/// What is open, and how many tunnels use it.
#[derive(Default)]
pub(crate) struct Registry {
    next_tag: u32,
    raw: HashMap<RawKey, Open<()>>,
    senders: HashMap<SendKey, Open<Arc<RawSend>>>,
    udp: HashMap<UdpKey, Open<Vec<Arc<Udp>>>>,
}

/// The sockets of one tunnel while it is up; given back by `release`.
pub(crate) struct Underlay {
    raw: Vec<RawKey>,
    sender: Option<SendKey>,
    ports: Vec<UdpKey>,
    pub send: Option<Arc<RawSend>>,
    /// To send from: one, or several to choose from by flow.
    pub udp: Vec<Arc<Udp>>,
}

impl Underlay {
    /// Of a protected tunnel, which uses the sockets of ESP.
    pub fn none() -> Self {
        Self {
            raw: Vec::new(),
            sender: None,
            ports: Vec::new(),
            send: None,
            udp: Vec::new(),
        }
    }
}

/// Opens what *options* need, or takes part in what is open.
pub(crate) fn acquire(
    shared: &Shared,
    options: &Options,
    v6: bool,
    fwmark: u32,
    offload: bool,
) -> io::Result<Underlay> {
    let mut registry = lock(&shared.sockets);
    let mut underlay = Underlay::none();
    let opened = fill(
        &mut registry,
        shared,
        &mut underlay,
        options,
        v6,
        fwmark,
        offload,
    );
    if let Err(error) = opened {
        give_back(&mut registry, shared, &mut underlay);
        return Err(error);
    }
    Ok(underlay)
}

/// Gives back what `acquire` gave; what nobody uses any more is closed, and its port free, when this returns.
pub(crate) fn release(shared: &Shared, underlay: &mut Underlay) {
    underlay.send = None;
    underlay.udp.clear();
    let mut registry = lock(&shared.sockets);
    give_back(&mut registry, shared, underlay);
}

/// Protocols of the delivery header that a kind receives.
fn protocols(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Gre | Kind::GreTap => &[47],
        Kind::Ipip => &[4],
        Kind::Sit => &[41],
        Kind::Ip6Tnl => &[4, 41],
    }
}

fn fill(
    registry: &mut Registry,
    shared: &Shared,
    underlay: &mut Underlay,
    options: &Options,
    v6: bool,
    fwmark: u32,
    offload: bool,
) -> io::Result<()> {
    let device = options.device;
    let Some(udp) = options.udp else {
        for &protocol in protocols(options.kind) {
            let key = RawKey { v6, protocol };
            registry.use_raw(shared, key)?;
            underlay.raw.push(key);
        }
        let key = SendKey { v6, fwmark, device };
        underlay.send = Some(registry.use_sender(key)?);
        underlay.sender = Some(key);
        return Ok(());
    };
    let key = |port| UdpKey {
        v6,
        port,
        fwmark,
        device,
        offload,
    };
    let listening = registry.use_udp(shared, key(udp.listen))?;
    underlay.ports.push(key(udp.listen));
    underlay.udp = if udp.source == udp.listen {
        listening
    } else {
        let sending = registry.use_udp(shared, key(udp.source))?;
        underlay.ports.push(key(udp.source));
        sending
    };
    Ok(())
}

fn give_back(registry: &mut Registry, shared: &Shared, underlay: &mut Underlay) {
    for key in underlay.raw.drain(..) {
        if let Some(open) = last_user(&mut registry.raw, &key) {
            shared.stop_receiving(&open.tags);
        }
    }
    if let Some(key) = underlay.sender.take() {
        last_user(&mut registry.senders, &key);
    }
    for key in underlay.ports.drain(..) {
        if let Some(open) = last_user(&mut registry.udp, &key) {
            shared.stop_receiving(&open.tags);
            // The port is free only when the threads have let go as well, which takes them a turn at most.
            let deadline = Instant::now() + RELEASE_TIMEOUT;
            while open
                .value
                .iter()
                .any(|socket| Arc::strong_count(socket) > 1)
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

fn last_user<K: Hash + Eq, V>(map: &mut HashMap<K, Open<V>>, key: &K) -> Option<Open<V>> {
    let open = map.get_mut(key)?;
    open.users -= 1;
    if open.users == 0 {
        map.remove(key)
    } else {
        None
    }
}

impl Registry {
    fn use_raw(&mut self, shared: &Shared, key: RawKey) -> io::Result<()> {
        if let Some(open) = self.raw.get_mut(&key) {
            open.users += 1;
            return Ok(());
        }
        let socket = RawReceive::open(key.v6, key.protocol)?;
        let protocol = key.protocol;
        let tag = self.receive(shared, Socket::Raw { socket, protocol })?;
        self.raw.insert(
            key,
            Open {
                value: (),
                users: 1,
                tags: vec![tag],
            },
        );
        Ok(())
    }

    fn use_sender(&mut self, key: SendKey) -> io::Result<Arc<RawSend>> {
        if let Some(open) = self.senders.get_mut(&key) {
            open.users += 1;
            return Ok(open.value.clone());
        }
        let socket = Arc::new(RawSend::open(key.v6, key.fwmark, key.device)?);
        self.senders.insert(
            key,
            Open {
                value: socket.clone(),
                users: 1,
                tags: Vec::new(),
            },
        );
        Ok(socket)
    }

    fn use_udp(&mut self, shared: &Shared, key: UdpKey) -> io::Result<Vec<Arc<Udp>>> {
        if let Some(open) = self.udp.get_mut(&key) {
            open.users += 1;
            return Ok(open.value.clone());
        }
        let binding = Binding {
            v6: key.v6,
            port: key.port,
            fwmark: key.fwmark,
            device: key.device,
            errors: true,
            many: true,
            offload: key.offload,
            shared: key.port != 0 && self.has_port(key.v6, key.port),
            no_checksum: false,
        };
        let sockets = if key.port == 0 {
            entropy_sockets(&binding)?
        } else {
            let socket = Udp::bind_as(&binding)?;
            socket.share_port()?;
            vec![Arc::new(socket)]
        };
        let mut tags = Vec::with_capacity(sockets.len());
        for socket in &sockets {
            match self.receive(shared, Socket::Udp(socket.clone())) {
                Ok(tag) => tags.push(tag),
                Err(error) => {
                    shared.stop_receiving(&tags);
                    return Err(error);
                }
            }
        }
        self.udp.insert(
            key,
            Open {
                value: sockets.clone(),
                users: 1,
                tags,
            },
        );
        Ok(sockets)
    }

    /// Whether a socket of ours is bound to that port already.
    fn has_port(&self, v6: bool, port: u16) -> bool {
        self.udp.keys().any(|key| key.v6 == v6 && key.port == port)
    }

    /// Has the receiving thread read it.
    pub fn receive(&mut self, shared: &Shared, socket: Socket) -> io::Result<u32> {
        // 0 is the tag of the wake.
        self.next_tag = self.next_tag.checked_add(1).unwrap_or(1);
        let tag = self.next_tag;
        let fd = socket.fd();
        write(&shared.receivers).insert(tag, Arc::new(socket));
        if let Err(error) = shared.receive_poll.add(fd, u64::from(tag)) {
            write(&shared.receivers).remove(&tag);
            return Err(error);
        }
        Ok(tag)
    }
}

/// Sockets on ports chosen at random, so that two hosts of ours behind one NAT seldom meet.
fn entropy_sockets(binding: &Binding) -> io::Result<Vec<Arc<Udp>>> {
    let mut sockets = Vec::with_capacity(ENTROPY_PORTS);
    let span = u32::from(*ENTROPY_RANGE.end() - *ENTROPY_RANGE.start()) + 1;
    let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
    for _ in 0..ENTROPY_PORTS * ENTROPY_ATTEMPTS {
        if sockets.len() == ENTROPY_PORTS {
            return Ok(sockets);
        }
        let mut random = [0; 4];
        ginnel_crypto::entropy(&mut random).map_err(io::Error::from)?;
        let port = *ENTROPY_RANGE.start() + (u32::from_ne_bytes(random) % span) as u16;
        match Udp::bind_as(&Binding { port, ..*binding }) {
            Ok(socket) => sockets.push(Arc::new(socket)),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => last = error,
            Err(error) => return Err(error),
        }
    }
    if sockets.len() == ENTROPY_PORTS {
        Ok(sockets)
    } else {
        Err(last)
    }
}

impl Registry {
    /// Each socket in words, and how it fares.
    pub fn describe(&self) -> Vec<(String, String)> {
        let family = |v6| if v6 { "IPv6" } else { "IPv4" };
        let mut lines: Vec<(String, String)> = self
            .raw
            .keys()
            .map(|key| {
                let name = match key.protocol {
                    47 => "gre",
                    4 => "ipv4",
                    _ => "ipv6",
                };
                (format!("{name} over {}", family(key.v6)), "on".to_owned())
            })
            .collect();
        for (key, open) in &self.udp {
            let state = open.value.first().map_or_else(String::new, |socket| {
                match (socket.gso_state().as_str(), socket.gro_state().as_str()) {
                    ("on", "on") => "on".to_owned(),
                    (gso, gro) => format!("segmentation {gso}, coalescing {gro}"),
                }
            });
            let detail = |word: &str, value: u32| match value {
                0 => String::new(),
                value => format!(", {word} {value}"),
            };
            let name = [
                if key.port == 0 {
                    format!("{} udp ports over {}", open.value.len(), family(key.v6))
                } else {
                    format!("udp port {} over {}", key.port, family(key.v6))
                },
                detail("mark", key.fwmark),
                detail("device", key.device),
            ]
            .concat();
            lines.push((name, state));
        }
        lines.sort();
        lines
    }
}
