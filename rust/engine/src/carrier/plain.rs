//! One plain or protected tunnel as the two threads know it: where its packets go, what it counts, what of its network is told to the control plane.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ginnel_gre::options::{Kind, Options};
use ginnel_gre::outer;
use ginnel_gre::receive::State;

use super::drops::{PlainDrop, PlainDrops};
use super::protect::Protect;
use super::sockets::Underlay;
use super::Shared;
use crate::bucket::Bucket;
use crate::event::{Event, Events, PathErrorKind};
use crate::lock;
use crate::sys::raw::RawSend;
use crate::sys::route::{self, Route};
use crate::sys::tun::Tun;
use crate::sys::udp::Udp;

/// How much of a keepalive is told.
const MAX_TOLD: usize = 128;
/// How often a mismatch is told, for each reason.
const MISMATCH_INTERVAL_NS: u64 = 60_000_000_000;

/// What is fixed while a tunnel keeps its ends and stays up or down; the threads take it once a visit.
pub(crate) struct Plan {
    pub options: Options,
    pub v6: bool,
    /// Bytes before the inner packet.
    pub headroom: usize,
    pub fwmark: u32,
    pub up: bool,
    /// While up, unless in UDP.
    pub send: Option<Arc<RawSend>>,
    /// While up and in UDP: to choose from by flow.
    pub udp: Vec<Arc<Udp>>,
}

impl Plan {
    pub(super) fn new(
        options: Options,
        v6: bool,
        fwmark: u32,
        underlay: Option<&Underlay>,
    ) -> Self {
        Self {
            headroom: outer::len(&options),
            v6,
            fwmark,
            up: underlay.is_some(),
            send: underlay.and_then(|underlay| underlay.send.clone()),
            udp: underlay.map_or_else(Vec::new, |underlay| underlay.udp.clone()),
            options,
        }
    }

    pub fn is_tap(&self) -> bool {
        self.options.kind == Kind::GreTap
    }

    /// With the scope that a link-local address needs.
    pub fn socket_address(&self, ip: IpAddr, port: u16) -> SocketAddr {
        match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.options.device))
            }
            ip => SocketAddr::new(ip, port),
        }
    }

    /// The unspecified address of the delivery header's family.
    pub fn any(&self) -> IpAddr {
        if self.v6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }
    }

    /// Whether the far end is wherever the last packet came from: an address is believed only with a key.
    pub(super) fn learns_address(&self) -> bool {
        self.options.remote.is_none() && self.options.ikey.is_some()
    }

    /// Only of a peer that is configured, or has shown the key: an open remote would be anybody's who sends one packet.
    pub(super) fn learns_port(&self) -> bool {
        let known = self.options.remote.is_some() || self.options.ikey.is_some();
        known && self.options.udp.is_some_and(|udp| udp.destination == 0)
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
    pub last_receive_ns: AtomicU64,
    pub last_send_ns: AtomicU64,
}

/// What of a tunnel's network is told to the control plane, and how often.
pub(super) struct Told {
    pub(super) controls: Bucket,
    pub(super) path_errors: Bucket,
    /// (kind, code) that were told at least once.
    pub(super) seen_errors: Vec<(PathErrorKind, u8)>,
    /// When each reason was told last; 0: never.
    pub(super) mismatches_ns: [u64; PlainDrop::NAMES.len()],
}

/// What the threads know of a tunnel.
pub(crate) struct Plain {
    pub id: u32,
    pub name: String,
    /// Of a protected tunnel.
    pub protect: Option<Protect>,
    /// Each thread holds it for a visit; `close` lets go of ours, and with the last holder the device is deleted.
    pub(super) device: Mutex<Option<Arc<Tun>>>,
    pub(super) plan: Mutex<Arc<Plan>>,
    /// The device's.
    pub mtu: AtomicUsize,
    /// The largest inner packet; 0: not learned.
    pub path_mtu: AtomicUsize,
    pub held: AtomicBool,
    pub unreachable_left: AtomicU32,
    pub unreachable_until_ns: AtomicU64,
    pub sequence_out: AtomicU32,
    pub state: Mutex<State>,
    /// Address and port of the last packet that was admitted, where they are learned.
    pub(super) learned: Mutex<Option<(IpAddr, u16)>>,
    /// A change of it was told, and the control plane has not looked yet.
    pub(super) announced: AtomicBool,
    /// The route to a remote, as the kernel last told it.
    pub(super) route: Mutex<Option<(SocketAddr, Route)>>,
    pub(super) told: Mutex<Told>,
    pub counters: Counters,
    pub drops: PlainDrops,
}

impl Plain {
    pub fn device(&self) -> Option<Arc<Tun>> {
        lock(&self.device).clone()
    }

    pub fn plan(&self) -> Arc<Plan> {
        lock(&self.plan).clone()
    }

    /// The largest inner packet that is sent whole; 0: whatever the device hands over.
    pub fn limit(&self) -> usize {
        self.path_mtu.load(Ordering::Relaxed)
    }

    /// Where packets go now.
    pub fn remote(&self, plan: &Plan) -> Option<SocketAddr> {
        if let Some(protect) = &self.protect {
            return protect.sending().map(|sending| sending.path.remote);
        }
        let learned = if plan.learns_address() || plan.learns_port() {
            *lock(&self.learned)
        } else {
            None
        };
        let ip = plan.options.remote.or(learned.map(|(ip, _)| ip))?;
        let port = match plan.options.udp {
            None => 0,
            Some(udp) if udp.destination != 0 => udp.destination,
            Some(_) => learned?.1,
        };
        Some(plan.socket_address(ip, port))
    }

    /// A packet of *from* was admitted: where that is learned, replies go there.
    pub fn learn(&self, plan: &Plan, from: IpAddr, port: u16, events: &Events) {
        let learns = plan.learns_address() || plan.learns_port();
        if !learns || self.protect.is_some() {
            return;
        }
        let mut learned = lock(&self.learned);
        if *learned != Some((from, port)) {
            *learned = Some((from, port));
            drop(learned);
            if !self.announced.swap(true, Ordering::Relaxed) {
                events.push(Event::EndpointChanged {
                    tunnel: self.id,
                    peer: 0,
                });
            }
        }
    }

    /// The route to *to*, asked from the kernel when it is not known.
    pub fn route(&self, plan: &Plan, to: SocketAddr) -> io::Result<Route> {
        let mut known = lock(&self.route);
        if let Some((_, route)) = known.filter(|(known, _)| *known == to) {
            return Ok(route);
        }
        let route = match self.protect.as_ref().and_then(Protect::sending) {
            Some(sending) => {
                let source = Some(sending.path.local);
                route::ask(to, source, sending.fwmark, sending.device)
            }
            None => route::ask(to, plan.options.local, plan.fwmark, plan.options.device),
        }?;
        *known = Some((to, route));
        Ok(route)
    }

    pub fn forget_route(&self) {
        *lock(&self.route) = None;
    }

    /// Tells of a keepalive, if its share allows; else it is dropped.
    pub fn tell_control(
        &self,
        events: &Events,
        returned: bool,
        protocol: u16,
        packet: &[u8],
        now_ns: u64,
    ) {
        if !events.takes_told() || !lock(&self.told).controls.take(now_ns) {
            self.drops.count(PlainDrop::ControlLimited, 1);
            return;
        }
        events.push(Event::Control {
            tunnel: self.id,
            returned,
            protocol,
            packet: packet[..packet.len().min(MAX_TOLD)].to_vec(),
        });
    }

    /// Tells what an ICMP error (or the kernel) says of the path; the first of a kind and code always.
    pub fn tell_path_error(
        &self,
        events: &Events,
        kind: PathErrorKind,
        code: u8,
        mtu: u32,
        origin: Option<IpAddr>,
        now_ns: u64,
    ) {
        let mut told = lock(&self.told);
        let first = !told.seen_errors.contains(&(kind, code));
        if first {
            // Four kinds of 256 codes: bounded.
            told.seen_errors.push((kind, code));
        }
        let allowed = told.path_errors.take(now_ns) && events.takes_told();
        if first || allowed {
            events.push(Event::PathError {
                tunnel: self.id,
                kind,
                code,
                mtu,
                origin,
            });
        }
    }

    /// Drops a packet because the two ends are configured differently, and tells it now and then.
    pub fn mismatch(
        &self,
        events: &Events,
        reason: PlainDrop,
        seen: Option<u32>,
        remote: IpAddr,
        now_ns: u64,
    ) {
        self.drops.count(reason, 1);
        let mut told = lock(&self.told);
        let last_ns = &mut told.mismatches_ns[reason as usize];
        let due = *last_ns == 0 || now_ns.saturating_sub(*last_ns) >= MISMATCH_INTERVAL_NS;
        if due && events.takes_told() {
            *last_ns = now_ns;
            events.push(Event::Mismatch {
                tunnel: self.id,
                reason: reason.name(),
                seen,
                remote,
            });
        }
    }

    /// The device is gone: it is let go of, and that is told.
    pub fn lose_device(&self, shared: &Shared, reason: String) {
        if let Some(device) = lock(&self.device).take() {
            // It cannot fail: the descriptor is open and was added.
            let _ = shared.transmit_poll.remove(device.as_raw_fd());
            shared.events.push(Event::DeviceGone {
                tunnel: self.id,
                reason,
            });
        }
    }
}
