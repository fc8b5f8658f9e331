//! One plain or protected tunnel as the control plane drives it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ginnel_gre::options::{Kind, Options};
use ginnel_gre::receive::State;
use ginnel_packet::ip;

use super::drops::{PlainDrop, PlainDrops};
use super::plain::{Counters, Plain, Plan, Told};
use super::protect::Protect;
use super::sockets::{self, Underlay};
use super::{Control, ControlPacket, Shared};
use crate::bucket::Bucket;
use crate::sys::tun::{Layer, OpenError, Tun};
use crate::{lock, write};

/// How long closing waits for a thread to let go of the device.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest payload of `send_control`: a probe of a path of jumbo frames.
const MAX_CONTROL: usize = 9216;
/// Keepalives told in a second, and at once.
const CONTROLS_PER_S: u64 = 50;
/// Path errors told in a second, and at once.
const PATH_ERRORS_PER_S: u64 = 10;
/// No packet is longer.
const MAX_MTU: usize = 65_535;

/// How a tunnel is made.
pub struct PlainOptions {
    pub name: String,
    pub options: Options,
    pub fwmark: u32,
    pub mtu: u16,
    pub tun_fd: Option<OwnedFd>,
    pub tun_offload: bool,
    pub udp_offload: bool,
    /// Some(bare): only under SAs; *bare* without encapsulation, and `options` then are those of an `ip6tnl` without ends.
    pub protected: Option<bool>,
}

/// What making or changing a tunnel may refuse.
#[derive(Debug)]
pub enum PlainError {
    /// Options that contradict each other; says what was expected.
    Invalid(String),
    /// There is a tunnel that it could not be told apart from: its name.
    Exists(String),
    /// A system call, and which.
    Open(OpenError),
    /// There is no SA.
    NoSa,
}

impl PlainError {
    pub(super) fn os(step: &str, errno: i32) -> Self {
        Self::Open(OpenError {
            step: step.to_owned(),
            source: io::Error::from_raw_os_error(errno),
        })
    }
}

impl From<OpenError> for PlainError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// One tunnel's counters; packets and bytes are those of the inner side.
#[derive(Clone, Copy, Debug)]
pub struct PlainCounters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub last_receive_ns: u64,
    pub last_send_ns: u64,
    pub remote: Option<SocketAddr>,
    pub sequence_out: u32,
    pub sequence_in: Option<u32>,
}

/// The handle of the control plane.
pub struct PlainTunnel {
    pub(super) shared: Arc<Shared>,
    pub(super) plain: Arc<Plain>,
    /// What it uses while up; also taken by whoever changes the plan.
    underlay: Mutex<Option<Underlay>>,
    udp_offload: bool,
    process: u32,
}

/// Whether the delivery header is IPv6; Err says what does not fit together.
fn family(options: &Options) -> Result<bool, String> {
    if let Some(group) = options.remote.filter(IpAddr::is_multicast) {
        return Err(format!(
            "remote {group} is a group, and a tunnel has one other end"
        ));
    }
    let v6 = match (options.local, options.remote) {
        (Some(local), Some(remote)) if local.is_ipv6() != remote.is_ipv6() => {
            return Err(format!(
                "local {local} and remote {remote} are of different families"
            ))
        }
        (Some(end), _) | (_, Some(end)) => end.is_ipv6(),
        (None, None) => options.kind == Kind::Ip6Tnl,
    };
    match options.kind {
        Kind::Ipip | Kind::Sit if v6 => return Err("ipip and sit go over IPv4".to_owned()),
        Kind::Ip6Tnl if !v6 => return Err("ip6tnl goes over IPv6".to_owned()),
        _ => {}
    }
    if let Some(udp) = options.udp {
        if !matches!(options.kind, Kind::Gre | Kind::GreTap) {
            return Err("only gre and gretap go in UDP".to_owned());
        }
        if udp.listen == 0 {
            return Err("the port to listen on is 0".to_owned());
        }
        if options.encaplimit.is_some() || options.flowlabel.is_some() {
            return Err("neither encaplimit nor flowlabel is sent in UDP".to_owned());
        }
    }
    Ok(v6)
}

impl PlainTunnel {
    pub(super) fn open(
        shared: Arc<Shared>,
        id: u32,
        given: PlainOptions,
        process: u32,
    ) -> Result<Self, PlainError> {
        let options = given.options;
        let v6 = family_of(&options, given.protected).map_err(PlainError::Invalid)?;
        list(&mut write(&shared.tables), &options, id, given.protected)?;
        let layer = if options.kind == Kind::GreTap {
            Layer::Ethernet
        } else {
            Layer::Ip
        };
        let device = match given.tun_fd {
            Some(fd) => Tun::adopt_layer(layer, fd, given.tun_offload),
            None => Tun::open_layer(layer, &given.name, given.mtu, given.tun_offload),
        };
        let device = match device {
            Ok(device) => Arc::new(device),
            Err(error) => {
                write(&shared.tables).demux.remove(id);
                return Err(error.into());
            }
        };
        let plain = Arc::new(Plain {
            id,
            name: device.name().to_owned(),
            protect: given.protected.map(Protect::new),
            device: Mutex::new(Some(device.clone())),
            plan: Mutex::new(Arc::new(Plan::new(options, v6, given.fwmark, None))),
            mtu: AtomicUsize::new(usize::from(given.mtu)),
            path_mtu: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            unreachable_left: AtomicU32::new(0),
            unreachable_until_ns: AtomicU64::new(0),
            sequence_out: AtomicU32::new(0),
            state: Mutex::new(State::default()),
            learned: Mutex::new(None),
            announced: AtomicBool::new(false),
            route: Mutex::new(None),
            told: Mutex::new(Told {
                controls: Bucket::new(CONTROLS_PER_S, CONTROLS_PER_S),
                path_errors: Bucket::new(PATH_ERRORS_PER_S, PATH_ERRORS_PER_S),
                seen_errors: Vec::new(),
                mismatches_ns: [0; PlainDrop::NAMES.len()],
            }),
            counters: Counters::default(),
            drops: PlainDrops::new(),
        });
        write(&shared.tables).tunnels.insert(id, plain.clone());
        let tunnel = Self {
            shared,
            plain,
            underlay: Mutex::new(None),
            udp_offload: given.udp_offload,
            process,
        };
        let polled = tunnel
            .shared
            .transmit_poll
            .add(device.as_raw_fd(), u64::from(id));
        drop(device);
        if let Err(source) = polled {
            tunnel.close();
            return Err(PlainError::Open(OpenError {
                step: "epoll".to_owned(),
                source,
            }));
        }
        Ok(tunnel)
    }

    pub fn id(&self) -> u32 {
        self.plain.id
    }

    pub fn name(&self) -> &str {
        &self.plain.name
    }

    /// EBADFD once the device is gone.
    pub fn tun_fd(&self) -> io::Result<RawFd> {
        self.plain
            .device()
            .map(|device| device.as_raw_fd())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADFD))
    }

    pub fn is_up(&self) -> bool {
        self.plain.plan().up
    }

    /// After `close`, never before.
    pub fn is_closed(&self) -> bool {
        !crate::read(&self.shared.tables)
            .tunnels
            .contains_key(&self.plain.id)
    }

    pub fn up(&self) -> io::Result<()> {
        let mut underlay = lock(&self.underlay);
        if underlay.is_some() || self.is_closed() {
            return Ok(());
        }
        let plan = self.plain.plan();
        let acquired = match self.plain.protect {
            Some(_) => Underlay::none(),
            None => self.acquire(&plan.options, plan.v6, plan.fwmark)?,
        };
        self.replace_plan(&plan, plan.options.clone(), plan.v6, Some(&acquired));
        *underlay = Some(acquired);
        Ok(())
    }

    pub fn down(&self) {
        let mut underlay = lock(&self.underlay);
        let Some(mut released) = underlay.take() else {
            return;
        };
        let plan = self.plain.plan();
        self.replace_plan(&plan, plan.options.clone(), plan.v6, None);
        drop(plan);
        sockets::release(&self.shared, &mut released);
    }

    fn acquire(&self, options: &Options, v6: bool, fwmark: u32) -> io::Result<Underlay> {
        sockets::acquire(&self.shared, options, v6, fwmark, self.udp_offload)
    }

    fn replace_plan(&self, old: &Plan, options: Options, v6: bool, underlay: Option<&Underlay>) {
        let plan = Plan::new(options, v6, old.fwmark, underlay);
        *lock(&self.plain.plan) = Arc::new(plan);
        self.plain.forget_route();
    }

    /// Out of the demultiplexer, its sockets given back, its device deleted; idempotent. Nothing in a forked child: see `Tunnel::close`.
    pub fn close(&self) {
        if std::process::id() != self.process {
            return;
        }
        {
            let mut tables = write(&self.shared.tables);
            tables.demux.remove(self.plain.id);
            tables.tunnels.remove(&self.plain.id);
            if let Some(protect) = &self.plain.protect {
                for sa in lock(&protect.inbound).drain(..) {
                    tables.spis.remove(sa.spi());
                }
                protect.clear_sending();
            }
        }
        self.down();
        let Some(device) = lock(&self.plain.device).take() else {
            return;
        };
        // It cannot fail: the descriptor is open and was added.
        let _ = self.shared.transmit_poll.remove(device.as_raw_fd());
        // The threads hold it for a visit at most.
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        while Arc::strong_count(&device) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    pub fn set_mtu(&self, mtu: u16) {
        self.plain.mtu.store(usize::from(mtu), Ordering::Relaxed);
        self.plain.forget_route();
    }

    pub fn set_path_mtu(&self, mtu: usize) {
        self.plain
            .path_mtu
            .store(mtu.min(MAX_MTU), Ordering::Relaxed);
        self.plain.forget_route();
    }

    pub fn set_hold(&self, held: bool) {
        self.plain.held.store(held, Ordering::Relaxed);
    }

    pub fn set_unreachable(&self, packets: u32, until_ns: u64) {
        self.plain
            .unreachable_until_ns
            .store(until_ns, Ordering::Relaxed);
        self.plain
            .unreachable_left
            .store(packets, Ordering::Relaxed);
    }

    /// Other ends; the old ones stay when the new ones are refused.
    pub fn set_ends(
        &self,
        local: Option<IpAddr>,
        remote: Option<IpAddr>,
    ) -> Result<(), PlainError> {
        if self
            .plain
            .protect
            .as_ref()
            .is_some_and(|protect| protect.bare)
        {
            // Its SAs name them.
            return Ok(());
        }
        let mut underlay = lock(&self.underlay);
        let plan = self.plain.plan();
        let options = Options {
            local,
            remote,
            ..plan.options.clone()
        };
        let protected = self.plain.protect.as_ref().map(|protect| protect.bare);
        let v6 = family_of(&options, protected).map_err(PlainError::Invalid)?;
        let mut acquired = if plan.up && v6 != plan.v6 && protected.is_none() {
            let acquired = self.acquire(&options, v6, plan.fwmark);
            Some(acquired.map_err(|source| {
                let step = "socket".to_owned();
                PlainError::Open(OpenError { step, source })
            })?)
        } else {
            None
        };
        {
            let mut tables = write(&self.shared.tables);
            if !tables.tunnels.contains_key(&self.plain.id) {
                drop(tables);
                if let Some(acquired) = &mut acquired {
                    sockets::release(&self.shared, acquired);
                }
                return Ok(());
            }
            tables.demux.remove(self.plain.id);
            if let Err(refused) = list(&mut tables, &options, self.plain.id, protected) {
                // They were there a moment ago, under the same lock.
                let _ = list(&mut tables, &plan.options, self.plain.id, protected);
                drop(tables);
                if let Some(acquired) = &mut acquired {
                    sockets::release(&self.shared, acquired);
                }
                return Err(refused);
            }
        }
        let unused = match acquired {
            Some(acquired) => underlay.replace(acquired),
            None => None,
        };
        *lock(&self.plain.learned) = None;
        if options.remote != plan.options.remote {
            // Another sender counts from somewhere else; of the one before nothing finds this tunnel any more.
            *lock(&self.plain.state) = State::default();
        }
        self.replace_plan(&plan, options, v6, underlay.as_ref());
        drop(plan);
        if let Some(mut unused) = unused {
            sockets::release(&self.shared, &mut unused);
        }
        Ok(())
    }

    /// One packet of ours through the tunnel, behind what the device has handed over.
    pub fn send_control(&self, protocol: u16, payload: &[u8]) -> Result<(), PlainError> {
        if payload.len() > MAX_CONTROL {
            return Err(PlainError::Invalid(format!(
                "expected at most {MAX_CONTROL} bytes, found {}",
                payload.len()
            )));
        }
        self.queue(ControlPacket::Inside {
            protocol,
            payload: payload.to_vec(),
        })
    }

    /// A finished packet of the peer's, back to it; in UDP its GRE part.
    ///
    /// Only from our end to the peer's: else whoever can send to us could have us send to anybody.
    pub fn send_back(&self, packet: &[u8]) -> Result<(), PlainError> {
        let plan = self.plain.plan();
        let remote = match self.plain.protect {
            // Of the encapsulation inside, whatever path ESP takes.
            Some(_) => plan.options.remote,
            None => self.plain.remote(&plan).map(|at| at.ip()),
        };
        let total = ip::total_len(packet).unwrap_or(0);
        let protocol = match packet.first().map(|first| first >> 4) {
            Some(4) => packet.get(9),
            Some(6) => packet.get(6),
            _ => None,
        };
        let source = ip::source(packet);
        let local = match plan.options.local {
            Some(local) => Some(local),
            None if self.plain.protect.is_some() => None,
            None => self
                .plain
                .remote(&plan)
                .and_then(|to| self.plain.route(&plan, to).ok())
                .map(|route| route.source),
        };
        let ours = total == packet.len()
            && protocol == Some(&47)
            && source.is_some()
            && source == local
            && ip::destination(packet) == remote;
        if !ours {
            return Err(PlainError::Invalid(
                "expected a GRE packet from our end of the tunnel to the peer's".to_owned(),
            ));
        }
        if plan.options.udp.is_none() {
            return self.queue(ControlPacket::Finished(packet.to_vec()));
        }
        let header = match packet.first() {
            Some(first) if first >> 4 == 4 => usize::from(first & 0x0f) * 4,
            _ => 40,
        };
        let inside = packet.get(header..).unwrap_or_default();
        self.queue(ControlPacket::Finished(inside.to_vec()))
    }

    fn queue(&self, packet: ControlPacket) -> Result<(), PlainError> {
        let tunnel = self.plain.id;
        self.shared
            .queue_control(Control { tunnel, packet })
            .map_err(|source| {
                let step = "queue".to_owned();
                PlainError::Open(OpenError { step, source })
            })
    }

    /// The control plane has seen `EndpointChanged`: the next change is told again.
    pub fn endpoint_seen(&self) {
        self.plain.announced.store(false, Ordering::Relaxed);
    }

    pub fn counters(&self) -> PlainCounters {
        let counters = &self.plain.counters;
        PlainCounters {
            rx_packets: counters.rx_packets.load(Ordering::Relaxed),
            rx_bytes: counters.rx_bytes.load(Ordering::Relaxed),
            tx_packets: counters.tx_packets.load(Ordering::Relaxed),
            tx_bytes: counters.tx_bytes.load(Ordering::Relaxed),
            last_receive_ns: counters.last_receive_ns.load(Ordering::Relaxed),
            last_send_ns: counters.last_send_ns.load(Ordering::Relaxed),
            remote: self.plain.remote(&self.plain.plan()),
            sequence_out: self.plain.sequence_out.load(Ordering::Relaxed),
            sequence_in: lock(&self.plain.state).expected,
        }
    }

    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        self.plain.drops.read()
    }

    /// What is live of what makes it fast, or why not.
    pub fn offloads(&self) -> Vec<(&'static str, String)> {
        let off = |text: &str| text.to_owned();
        let plan = self.plain.plan();
        let (tcp, udp) = match self.plain.device() {
            Some(device) => (state(&device.tcp_offload), state(&device.udp_offload)),
            None => (
                off("off (the device is gone)"),
                off("off (the device is gone)"),
            ),
        };
        let sending = self.plain.protect.as_ref().and_then(Protect::sending);
        let port = sending.as_ref().filter(|sending| sending.path.in_udp());
        let port = port.and_then(|sending| {
            let ports = crate::read(&self.shared.ike).clone()?;
            let family = ports.family(sending.path.local.is_ipv6())?;
            Some(family.natt.clone())
        });
        let in_udp = plan.options.udp.is_some() || port.is_some();
        let (gso, gro) = match plan.udp.first().or(port.as_ref()) {
            Some(socket) => (socket.gso_state(), socket.gro_state()),
            None if in_udp => (off("off (down)"), off("off (down)")),
            None => (off("off (not in UDP)"), off("off (not in UDP)")),
        };
        let raw = if in_udp {
            "off (in UDP)"
        } else {
            "on (sendmmsg, recvmmsg)"
        };
        vec![
            ("tun_tcp", tcp),
            ("tun_udp", udp),
            ("udp_gso", gso),
            ("udp_gro", gro),
            ("raw", off(raw)),
        ]
    }
}

impl std::ops::Drop for PlainTunnel {
    fn drop(&mut self) {
        self.close();
    }
}

fn state(offload: &Result<(), String>) -> String {
    match offload {
        Ok(()) => "on".to_owned(),
        Err(why) => format!("off ({why})"),
    }
}

/// Puts a tunnel into the demultiplexer. Protected ones are there to be known by what arrives without protection: only with both ends known,
/// and several with the same ends are one there, since SPIs tell them apart (peers behind one NAT).
fn list(
    tables: &mut super::Tables,
    options: &Options,
    id: u32,
    protected: Option<bool>,
) -> Result<(), PlainError> {
    if protected.is_some() && (options.local.is_none() || options.remote.is_none()) {
        return Ok(());
    }
    let Err(other) = tables.demux.insert(options, id) else {
        return Ok(());
    };
    let both = |tables: &super::Tables| {
        let other = tables.tunnels.get(&other);
        protected.is_some() && other.is_some_and(|other| other.protect.is_some())
    };
    if both(tables) {
        return Ok(());
    }
    Err(PlainError::Exists(name_of(tables, other)))
}

/// As `family`, for tunnels of either sort.
fn family_of(options: &Options, protected: Option<bool>) -> Result<bool, String> {
    match protected {
        // There is no delivery header but ESP's.
        Some(true) => Ok(false),
        Some(false) if options.udp.is_some() => {
            Err("a protected tunnel goes in ESP, whose SAs choose UDP or not".to_owned())
        }
        _ => family(options),
    }
}

fn name_of(tables: &super::Tables, id: u32) -> String {
    tables
        .tunnels
        .get(&id)
        .map_or_else(String::new, |tunnel| tunnel.name.clone())
}
