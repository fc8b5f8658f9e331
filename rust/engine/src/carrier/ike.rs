//! The sockets of IKE and ESP: UDP 500 and 4500 and raw protocol 50, of each family, once a process.
//!
//! ```text
//! UDP 500                      IKE
//! UDP 4500 (RFC 3948 2.2)      four zero bytes, then IKE | one byte 0xFF: a NAT's mapping kept alive | else ESP, its SPI first
//! protocol 50                  ESP
//! ```
//!
//! IKE goes to the control plane as events, each source with its share of the queue; ESP to the tunnel that its SPI names. Any thread sends
//! IKE, the transmitting thread alone ESP. IKE messages may be fragmented on their way (a certificate does not fit else, and who cannot take
//! IP fragments negotiates IKE's own); ESP in UDP says itself for each batch whether it may be.
//!
//! The kernel answers packets of protocol 50 with "protocol unreachable" where nobody has a socket for it: ours is open for as long as IKE
//! is. UDP 4500 is a plain socket without the kernel's ESP-in-UDP, so everything on it is ours.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ginnel_esp::outer::ESP;
use ginnel_esp::udp::{KEEPALIVE, MARKER};

use super::sockets::Socket;
use super::Shared;
use crate::event::{Events, IkeRefused};
use crate::sys::raw::{RawReceive, RawSend};
use crate::sys::tun::OpenError;
use crate::sys::udp::{Binding, Outgoing, SendScratch, Udp};
use crate::{lock, write};

/// RFC 7296 3.1.
const IKE_HEADER: usize = 28;

/// How long closing waits for the threads to let go of the sockets.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a message is tried: the error of an earlier one, told by ICMP, is given to the next send instead of sending.
const SEND_TRIES: u32 = 4;

/// What is opened.
#[derive(Clone, Copy, Debug)]
pub struct IkeOptions {
    pub port: u16,
    pub natt_port: u16,
    pub fwmark: u32,
    pub device: u32,
    pub v4: bool,
    pub v6: bool,
    pub udp_offload: bool,
}

/// The sockets of one family.
pub(crate) struct Family {
    pub ike: Udp,
    /// Also what ESP in UDP leaves by.
    pub natt: Arc<Udp>,
    /// Protocol 50, receiving and sending.
    pub esp: RawReceive,
    pub raw: Arc<RawSend>,
}

/// Which of a family's sockets is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ike,
    Natt,
    Esp,
}

impl Family {
    pub fn fd(&self, place: Place) -> RawFd {
        match place {
            Place::Ike => self.ike.as_raw_fd(),
            Place::Natt => self.natt.as_raw_fd(),
            Place::Esp => self.esp.as_raw_fd(),
        }
    }

    /// None where the host has no such family.
    fn open(options: &IkeOptions, v6: bool) -> Result<Option<Arc<Self>>, OpenError> {
        let name = if v6 { "IPv6" } else { "IPv4" };
        let udp = |port: u16, offload: bool| {
            let bound = Udp::bind_as(&Binding {
                v6,
                port,
                fwmark: options.fwmark,
                device: options.device,
                errors: true,
                many: true,
                offload,
                shared: false,
                // Of IKE as of ESP: whatever is genuine says so itself.
                no_checksum: true,
            });
            bound.map_err(|source| OpenError {
                step: format!("UDP port {port} over {name}"),
                source,
            })
        };
        let ike = match udp(options.port, false) {
            Err(error)
                if matches!(
                    error.source.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
            {
                return Ok(None)
            }
            other => other?,
        };
        let natt = udp(options.natt_port, options.udp_offload)?;
        let raw = |source| OpenError {
            step: format!("protocol 50 over {name}"),
            source,
        };
        Ok(Some(Arc::new(Self {
            ike,
            natt: Arc::new(natt),
            esp: RawReceive::open(v6, ESP).map_err(raw)?,
            raw: Arc::new(RawSend::open(v6, options.fwmark, options.device).map_err(raw)?),
        })))
    }
}

#[derive(Default)]
struct Counted {
    received: AtomicU64,
    sent: AtomicU64,
    truncated: AtomicU64,
    beyond_share: AtomicU64,
    queue_full: AtomicU64,
    keepalives: AtomicU64,
    unknown_spi: AtomicU64,
    at_socket: AtomicU64,
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What the threads know of the ports.
pub(crate) struct Ports {
    pub options: IkeOptions,
    v4: Option<Arc<Family>>,
    v6: Option<Arc<Family>>,
    counted: Arc<Counted>,
}

impl Ports {
    pub fn family(&self, v6: bool) -> Option<&Arc<Family>> {
        if v6 {
            self.v6.as_ref()
        } else {
            self.v4.as_ref()
        }
    }

    /// Without sockets.
    #[cfg(test)]
    pub fn none() -> Self {
        Self {
            options: IkeOptions {
                port: 500,
                natt_port: 4500,
                fwmark: 0,
                device: 0,
                v4: true,
                v6: true,
                udp_offload: true,
            },
            v4: None,
            v6: None,
            counted: Arc::default(),
        }
    }

    /// Each socket in words, and how it fares.
    pub fn describe(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for (name, family) in [("IPv4", &self.v4), ("IPv6", &self.v6)] {
            let Some(family) = family else { continue };
            let IkeOptions {
                port, natt_port, ..
            } = self.options;
            let natt = &family.natt;
            let state = match (natt.gso_state().as_str(), natt.gro_state().as_str()) {
                ("on", "on") => "on".to_owned(),
                (gso, gro) => format!("segmentation {gso}, coalescing {gro}"),
            };
            lines.push((format!("ike port {port} over {name}"), "on".to_owned()));
            lines.push((format!("ike and esp port {natt_port} over {name}"), state));
            lines.push((format!("esp over {name}"), "on".to_owned()));
        }
        lines
    }

    pub fn count_lost(&self, lost: u32) {
        let counter = &self.counted.at_socket;
        counter.fetch_add(u64::from(lost), Ordering::Relaxed);
    }

    pub fn count_keepalive(&self) {
        one(&self.counted.keepalives);
    }

    pub fn count_unknown_spi(&self, packets: u64) {
        self.counted
            .unknown_spi
            .fetch_add(packets, Ordering::Relaxed);
    }

    /// Too short for anything.
    pub fn count_truncated(&self) {
        one(&self.counted.truncated);
    }

    /// An IKE message, behind the marker: to the control plane, if it may wait there.
    pub fn take_message(
        &self,
        events: &Events,
        message: &[u8],
        remote: SocketAddr,
        local: IpAddr,
        natt: bool,
    ) {
        let length = message.get(24..IKE_HEADER);
        let length = length.and_then(|bytes| bytes.try_into().ok());
        if length.map(u32::from_be_bytes) != u32::try_from(message.len()).ok() {
            one(&self.counted.truncated);
            return;
        }
        let counter = match events.push_ike(message, remote, local, natt) {
            Ok(()) => &self.counted.received,
            Err(IkeRefused::BeyondShare) => &self.counted.beyond_share,
            Err(IkeRefused::Full) => &self.counted.queue_full,
        };
        one(counter);
    }
}

/// The handle of the control plane.
pub struct IkePorts {
    shared: Arc<Shared>,
    options: IkeOptions,
    /// None once closed.
    ports: Mutex<Option<Arc<Ports>>>,
    /// In `Shared::receivers`.
    tags: Mutex<Vec<u32>>,
    counted: Arc<Counted>,
    process: u32,
}

impl IkePorts {
    /// Opens them all, or none. The error says which one it was.
    pub(super) fn open(
        shared: Arc<Shared>,
        options: IkeOptions,
        process: u32,
    ) -> Result<Self, OpenError> {
        let family = |wanted: bool, v6: bool| {
            if wanted {
                Family::open(&options, v6)
            } else {
                Ok(None)
            }
        };
        let counted = Arc::new(Counted::default());
        let ports = Arc::new(Ports {
            v4: family(options.v4, false)?,
            v6: family(options.v6, true)?,
            options,
            counted: counted.clone(),
        });
        if ports.v4.is_none() && ports.v6.is_none() {
            return Err(OpenError {
                step: "UDP".to_owned(),
                source: io::Error::from_raw_os_error(libc::EAFNOSUPPORT),
            });
        }
        // From here on whatever fails drops it, which closes what is open.
        let opened = Self {
            shared,
            options,
            ports: Mutex::new(Some(ports.clone())),
            tags: Mutex::new(Vec::new()),
            counted,
            process,
        };
        *write(&opened.shared.ike) = Some(ports.clone());
        for family in ports.v4.iter().chain(&ports.v6) {
            for place in [Place::Ike, Place::Natt, Place::Esp] {
                let socket = Socket::Port {
                    ports: ports.clone(),
                    family: family.clone(),
                    place,
                };
                let tag = lock(&opened.shared.sockets).receive(&opened.shared, socket);
                let tag = tag.map_err(|source| OpenError {
                    step: "epoll".to_owned(),
                    source,
                })?;
                lock(&opened.tags).push(tag);
            }
        }
        Ok(opened)
    }

    pub fn port(&self) -> u16 {
        self.options.port
    }

    pub fn natt_port(&self) -> u16 {
        self.options.natt_port
    }

    /// One message; *natt*: from the NAT traversal port, behind a marker. EBADF once closed.
    pub fn send(
        &self,
        message: &[u8],
        local: Option<IpAddr>,
        remote: SocketAddr,
        natt: bool,
    ) -> io::Result<()> {
        if natt {
            let marked = [&MARKER[..], message].concat();
            self.send_datagram(&marked, local, remote, natt)?;
        } else {
            self.send_datagram(message, local, remote, natt)?;
        }
        one(&self.counted.sent);
        Ok(())
    }

    /// The one byte that keeps a NAT's mapping.
    pub fn send_keepalive(&self, local: Option<IpAddr>, remote: SocketAddr) -> io::Result<()> {
        self.send_datagram(&KEEPALIVE, local, remote, true)
    }

    fn send_datagram(
        &self,
        datagram: &[u8],
        local: Option<IpAddr>,
        remote: SocketAddr,
        natt: bool,
    ) -> io::Result<()> {
        let ports = lock(&self.ports).clone();
        let ports = ports.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        let family = ports.family(remote.is_ipv6());
        let family = family.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let socket = if natt { &*family.natt } else { &family.ike };
        let message = [Outgoing {
            to: scoped(remote, self.options.device),
            source: local,
            tos: 0,
            ttl: 0,
            segment: 0,
            bytes: datagram.len(),
            pieces: 0..1,
        }];
        let whole = 0..datagram.len();
        let pieces = std::slice::from_ref(&whole);
        let mut scratch = SendScratch::default();
        let mut tries = SEND_TRIES;
        loop {
            match socket.send_many_with(false, datagram, pieces, &message, &mut scratch) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if tries <= 1 => return Err(error),
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        socket.wait_for_room();
                    }
                    tries -= 1;
                }
            }
        }
    }

    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let counted = &self.counted;
        let each = [
            ("received", &counted.received),
            ("sent", &counted.sent),
            ("truncated", &counted.truncated),
            ("beyond_share", &counted.beyond_share),
            ("queue_full", &counted.queue_full),
            ("keepalives", &counted.keepalives),
            ("unknown_spi", &counted.unknown_spi),
            ("at_socket", &counted.at_socket),
        ];
        each.map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .to_vec()
    }

    /// Closes the sockets: the ports are free when this returns. Idempotent. Nothing in a forked child: see `Tunnel::close`.
    pub fn close(&self) {
        if std::process::id() != self.process {
            return;
        }
        let Some(ports) = lock(&self.ports).take() else {
            return;
        };
        {
            let mut ike = write(&self.shared.ike);
            if ike.as_ref().is_some_and(|known| Arc::ptr_eq(known, &ports)) {
                *ike = None;
            }
        }
        let tags = std::mem::take(&mut *lock(&self.tags));
        self.shared.stop_receiving(&tags);
        // The threads hold them for a turn at most.
        let families: Vec<_> = ports.v4.iter().chain(&ports.v6).cloned().collect();
        drop(ports);
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        let in_use = |family: &Arc<Family>| {
            Arc::strong_count(family) > 1 || Arc::strong_count(&family.natt) > 1
        };
        while families.iter().any(in_use) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl std::ops::Drop for IkePorts {
    fn drop(&mut self) {
        self.close();
    }
}

/// With the scope that a link-local address needs.
pub(super) fn scoped(to: SocketAddr, device: u32) -> SocketAddr {
    match to {
        SocketAddr::V6(at) if at.ip().is_unicast_link_local() && at.scope_id() == 0 => {
            SocketAddr::V6(SocketAddrV6::new(*at.ip(), at.port(), 0, device))
        }
        to => to,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::Event;

    #[test]
    fn only_what_says_its_own_length_goes_to_the_control_plane() {
        let events = Events::new().unwrap();
        let ports = Ports::none();
        let from: SocketAddr = "192.0.2.1:500".parse().unwrap();
        let mut message = vec![0; 40];
        message[24..28].copy_from_slice(&40_u32.to_be_bytes());
        for len in 0..40 {
            ports.take_message(&events, &message[..len], from, from.ip(), false);
        }
        assert!(events.drain(64).is_empty());
        assert_eq!(ports.counted.truncated.load(Ordering::Relaxed), 40);
        ports.take_message(&events, &message, from, from.ip(), true);
        let taken = events.drain(64);
        assert!(
            matches!(&taken[..], [Event::Ike { message: told, natt: true, .. }] if *told == message)
        );
    }
}
