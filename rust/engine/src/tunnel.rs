//! One WireGuard interface as the control plane drives it: configuration, sessions, counters; and what its two threads share.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ginnel_crypto::{aead_backend, Secret};
use ginnel_wireguard::allowed_ips::Table;
use ginnel_wireguard::gate::Gate;

use crate::drops::{Drop, Drops};
use crate::event::{Event, Events, Source};
use crate::peer::{Peer, State};
use crate::schedule::Schedule;
use crate::session::Session;
use crate::shared::{is_device_gone, is_source_error, IdMap, IndexEntry, Shared, Tables};
use crate::sys::clock::boottime_ns;
use crate::sys::poll::Wake;
use crate::sys::tun::{OpenError, Tun};
use crate::sys::udp::{Outgoing, Pair, SendScratch};
use crate::{lock, read, receive, transmit, write};

/// DSCP AF41 on handshakes, as the kernel sends them: they must get through when data fills the link.
const HANDSHAKE_TOS: u8 = 0x88;
/// How long a handshake message waits for room in a full send buffer.
const CONTROL_PATIENCE: Duration = Duration::from_millis(100);
/// How long closing waits for a thread to let go of the sockets.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a method may refuse.
#[derive(Debug)]
pub enum Error {
    /// No such peer (any more).
    NoPeer(u32),
    /// The peer has no endpoint.
    NoEndpoint,
    /// An index that was not reserved for this peer, or is used already.
    NoIndex(u32),
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How a tunnel is made.
pub struct Options {
    pub name: String,
    pub mtu: u16,
    pub tun_fd: Option<OwnedFd>,
    pub tun_offload: bool,
    pub udp_offload: bool,
}

/// One peer as the engine sees it.
#[derive(Clone, Debug)]
pub struct PeerCounters {
    pub peer: u32,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub endpoint: Option<SocketAddr>,
    pub last_receive_ns: u64,
    pub last_send_ns: u64,
    pub staged: usize,
    pub session: &'static str,
    pub session_age_ns: u64,
}

struct Settings {
    port: u16,
    fwmark: u32,
    udp_offload: bool,
}

/// One WireGuard interface.
pub struct Tunnel {
    shared: Arc<Shared>,
    settings: Mutex<Settings>,
    next_peer: AtomicU32,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// A forked child has our memory but not our threads.
    process: u32,
}

impl Tunnel {
    /// Opens (or adopts) the device and starts both threads; the tunnel is down until `up`.
    pub fn open(id: u32, options: Options, events: Arc<Events>) -> Result<Self, OpenError> {
        let failed = |step: &str| {
            let step = step.to_owned();
            move |source| OpenError { step, source }
        };
        let device = match options.tun_fd {
            Some(fd) => Tun::adopt(fd, options.tun_offload)?,
            None => Tun::open(&options.name, options.mtu, options.tun_offload)?,
        };
        let mut seed = [0; 32];
        ginnel_crypto::entropy(&mut seed)
            .map_err(io::Error::from)
            .map_err(failed("getrandom"))?;
        let shared = Arc::new(Shared {
            id,
            name: device.name().to_owned(),
            device: Mutex::new(Some(Arc::new(device))),
            mtu: AtomicUsize::new(usize::from(options.mtu)),
            tables: RwLock::new(Tables {
                peers: IdMap::default(),
                allowed: Table::new(),
            }),
            indices: RwLock::new(IdMap::default()),
            sockets: RwLock::new(None),
            sockets_generation: AtomicU64::new(0),
            gate: Mutex::new(Gate::new(seed)),
            has_private_key: AtomicBool::new(false),
            events,
            drops: Drops::new(),
            schedule: Schedule::new(),
            dirty: Mutex::new(Vec::new()),
            dirty_flag: AtomicBool::new(false),
            transmit_wake: Wake::new().map_err(failed("eventfd"))?,
            receive_wake: Wake::new().map_err(failed("eventfd"))?,
            stop: AtomicBool::new(false),
            coalesce_refused: AtomicBool::new(false),
        });
        let tunnel = Self {
            shared,
            settings: Mutex::new(Settings {
                port: 0,
                fwmark: 0,
                udp_offload: options.udp_offload,
            }),
            next_peer: AtomicU32::new(1),
            threads: Mutex::new(Vec::new()),
            process: std::process::id(),
        };
        for (name, body) in [
            (
                "ginnel-tx",
                transmit::run as fn(&Arc<Shared>) -> io::Result<()>,
            ),
            ("ginnel-rx", receive::run),
        ] {
            let shared = tunnel.shared.clone();
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || supervise(&shared, name, body))
                .map_err(failed("thread"))?;
            lock(&tunnel.threads).push(thread);
        }
        Ok(tunnel)
    }

    pub fn id(&self) -> u32 {
        self.shared.id
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub fn tun_fd(&self) -> io::Result<RawFd> {
        Ok(self.shared.device()?.as_raw_fd())
    }

    /// Stops both threads, zeroes all sessions, closes the sockets and the device, which deletes it; idempotent.
    ///
    /// Nothing in a forked child: there are no threads to wait for, any lock may be held for ever, and all is still the parent's.
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
        self.down();
        lock(&self.shared.device).take();
    }

    /// After `close`, never before: the engine need not remember it.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared.device).is_none()
    }

    pub fn up(&self) -> io::Result<()> {
        let settings = lock(&self.settings);
        if read(&self.shared.sockets).is_some() {
            return Ok(());
        }
        let pair = bind(&settings, settings.port)?;
        self.replace_sockets(Some(pair));
        drop(settings);
        let peers: Vec<Arc<Peer>> = read(&self.shared.tables).peers.values().cloned().collect();
        let now_ns = boottime_ns();
        for peer in peers {
            let mut state = lock(&peer.state);
            if state.timers.start(now_ns) {
                state.stage_keepalive();
            }
            self.shared.arm(&peer, &mut state);
            if !state.staged.is_empty() {
                self.shared.mark_dirty(peer.id);
            }
        }
        Ok(())
    }

    pub fn down(&self) {
        {
            let _settings = lock(&self.settings);
            self.replace_sockets(None);
        }
        let peers: Vec<Arc<Peer>> = read(&self.shared.tables).peers.values().cloned().collect();
        for peer in peers {
            let mut state = lock(&peer.state);
            self.purge(&mut state);
            state.timers.stop();
            state.asked = None;
            self.shared.forget_indices(state.take_sessions());
        }
    }

    pub fn is_up(&self) -> bool {
        read(&self.shared.sockets).is_some()
    }

    /// Puts *pair* in place and waits until both threads have let go of the old sockets, so that their port is free.
    fn replace_sockets(&self, pair: Option<Pair>) {
        let old = std::mem::replace(&mut *write(&self.shared.sockets), pair.map(Arc::new));
        self.shared
            .sockets_generation
            .fetch_add(1, Ordering::Release);
        self.shared.transmit_wake.signal();
        self.shared.receive_wake.signal();
        let Some(old) = old else { return };
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        while Arc::strong_count(&old) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// For MAC1 and the cookie key.
    pub fn set_private_key(&self, key: Option<&Secret>) {
        let public = key.map(ginnel_crypto::x25519::public_key);
        lock(&self.shared.gate).set_public_key(public.as_ref());
        self.shared
            .has_private_key
            .store(public.is_some(), Ordering::Relaxed);
    }

    /// Rebinds when up; sessions stay. On an error the old sockets stay too.
    pub fn set_listen_port(&self, port: u16) -> io::Result<()> {
        let mut settings = lock(&self.settings);
        let Some(current) = self.shared.sockets() else {
            settings.port = port;
            return Ok(());
        };
        let bound = current.port;
        drop(current);
        if port != bound {
            let pair = bind(&settings, port)?;
            self.replace_sockets(Some(pair));
            self.clear_sources();
        }
        settings.port = port;
        Ok(())
    }

    pub fn listen_port(&self) -> u16 {
        self.shared
            .sockets()
            .map_or_else(|| lock(&self.settings).port, |pair| pair.port)
    }

    pub fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        let mut settings = lock(&self.settings);
        if let Some(pair) = self.shared.sockets() {
            for socket in pair.each() {
                socket.set_fwmark(fwmark)?;
            }
        }
        settings.fwmark = fwmark;
        drop(settings);
        self.clear_sources();
        Ok(())
    }

    pub fn set_mtu(&self, mtu: u16) {
        self.shared.mtu.store(usize::from(mtu), Ordering::Relaxed);
    }

    /// Routes or addresses of the host changed: sticky sources and refused segment sizes may be wrong now.
    pub fn clear_sources(&self) {
        for peer in read(&self.shared.tables).peers.values() {
            lock(&peer.state).source = None;
        }
        if let Some(pair) = self.shared.sockets() {
            pair.each()
                .for_each(crate::sys::udp::Udp::forget_refused_sizes);
        }
    }

    // ---- peers

    pub fn add_peer(&self) -> u32 {
        let id = self.next_peer.fetch_add(1, Ordering::Relaxed);
        write(&self.shared.tables)
            .peers
            .insert(id, Arc::new(Peer::new(id)));
        id
    }

    pub fn remove_peer(&self, peer: u32) -> Result<(), Error> {
        let peer = {
            let mut tables = write(&self.shared.tables);
            let removed = tables.peers.remove(&peer).ok_or(Error::NoPeer(peer))?;
            tables.allowed.remove_peer(peer);
            removed
        };
        let mut state = lock(&peer.state);
        state.removed = true;
        self.purge(&mut state);
        state.timers.stop();
        let scheduled_ns = std::mem::take(&mut state.scheduled_ns);
        self.shared.schedule.remove(scheduled_ns, peer.id);
        self.shared.forget_indices(state.take_sessions());
        let mut indices = write(&self.shared.indices);
        for index in state.reserved.drain(..) {
            indices.remove(&index);
        }
        Ok(())
    }

    pub fn set_endpoint(&self, peer: u32, endpoint: SocketAddr) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let mut state = lock(&peer.state);
        state.endpoint = Some(endpoint);
        state.source = None;
        Ok(())
    }

    pub fn set_keepalive(&self, peer: u32, interval_s: u16) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let up = self.is_up();
        let mut state = lock(&peer.state);
        if state.timers.set_persistent(interval_s, boottime_ns(), up) {
            state.stage_keepalive();
            self.shared.mark_dirty(peer.id);
        }
        self.shared.arm(&peer, &mut state);
        Ok(())
    }

    pub fn set_allowed_ips(
        &self,
        peer: u32,
        prefixes: &[(IpAddr, u8)],
        replace: bool,
    ) -> Result<(), Error> {
        let mut tables = write(&self.shared.tables);
        if !tables.peers.contains_key(&peer) {
            return Err(Error::NoPeer(peer));
        }
        if replace {
            tables.allowed.remove_peer(peer);
        }
        for (address, length) in prefixes {
            tables.allowed.insert(*address, *length, peer);
        }
        Ok(())
    }

    pub fn remove_allowed_ips(&self, peer: u32, prefixes: &[(IpAddr, u8)]) -> Result<(), Error> {
        let mut tables = write(&self.shared.tables);
        if !tables.peers.contains_key(&peer) {
            return Err(Error::NoPeer(peer));
        }
        for (address, length) in prefixes {
            tables.allowed.remove(*address, *length, peer);
        }
        Ok(())
    }

    pub fn allowed_ips(&self, peer: u32) -> Result<Vec<(IpAddr, u8)>, Error> {
        let tables = read(&self.shared.tables);
        if !tables.peers.contains_key(&peer) {
            return Err(Error::NoPeer(peer));
        }
        Ok(tables.allowed.prefixes_of(peer))
    }

    /// Sends what is staged; asks for a session when there is none.
    pub fn flush(&self, peer: u32) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let waits = !lock(&peer.state).staged.is_empty();
        if waits {
            self.shared.mark_dirty(peer.id);
        }
        Ok(())
    }

    fn purge(&self, state: &mut State) {
        let packets = state
            .staged
            .iter()
            .filter(|packet| !packet.is_empty())
            .count();
        state.staged.clear();
        state.trim_staged();
        self.shared.drops.count(Drop::StagedPurged, packets as u64);
    }

    // ---- sessions

    /// A random index, unique among live handshakes and sessions.
    pub fn reserve_index(&self, peer: u32) -> Result<u32, Error> {
        let peer = self.shared.peer(peer)?;
        let mut state = lock(&peer.state);
        if state.removed {
            return Err(Error::NoPeer(peer.id));
        }
        let mut indices = write(&self.shared.indices);
        loop {
            let mut bytes = [0; 4];
            ginnel_crypto::entropy(&mut bytes).map_err(io::Error::from)?;
            let index = u32::from_ne_bytes(bytes);
            if let std::collections::hash_map::Entry::Vacant(slot) = indices.entry(index) {
                slot.insert(IndexEntry {
                    peer: peer.clone(),
                    session: None,
                });
                state.reserved.push(index);
                return Ok(index);
            }
        }
    }

    /// Idempotent; an index that has become a session is left alone.
    pub fn release_index(&self, index: u32) {
        let holder = match read(&self.shared.indices).get(&index) {
            Some(IndexEntry {
                peer,
                session: None,
            }) => peer.clone(),
            _ => return,
        };
        let mut state = lock(&holder.state);
        state.reserved.retain(|reserved| *reserved != index);
        let mut indices = write(&self.shared.indices);
        if indices
            .get(&index)
            .is_some_and(|entry| entry.session.is_none())
        {
            indices.remove(&index);
        }
    }

    /// Starts a session; see the module `peer` for what becomes of the others.
    pub fn install_session(
        &self,
        peer: u32,
        local_index: u32,
        remote_index: u32,
        send: &Secret,
        receive: &Secret,
        initiator: bool,
    ) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let now_ns = boottime_ns();
        let session = Arc::new(Session::new(
            local_index,
            remote_index,
            send,
            receive,
            initiator,
            now_ns,
        ));
        let mut state = lock(&peer.state);
        let Some(at) = state
            .reserved
            .iter()
            .position(|reserved| *reserved == local_index)
        else {
            return Err(Error::NoIndex(local_index));
        };
        state.reserved.swap_remove(at);
        let leaving = state.install(session.clone());
        {
            let mut indices = write(&self.shared.indices);
            for old in leaving {
                indices.remove(&old.local_index);
            }
            indices.insert(
                local_index,
                IndexEntry {
                    peer: peer.clone(),
                    session: Some(session),
                },
            );
        }
        if initiator {
            // Key confirmation: the responder may not send before it has heard from us under the new session.
            state.stage_keepalive();
            self.shared.mark_dirty(peer.id);
        }
        Ok(())
    }

    pub fn send_handshake(&self, peer: u32, message: &[u8]) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        if !self.is_up() {
            // Before the timers: they run only while the interface is up.
            return Err(Error::Io(io::Error::from_raw_os_error(libc::ENETDOWN)));
        }
        let now_ns = boottime_ns();
        let (to, source) = {
            let mut state = lock(&peer.state);
            let to = state.endpoint.ok_or(Error::NoEndpoint)?;
            state.timers.any_authenticated_sent(now_ns);
            state.timers.any_traversal(now_ns);
            self.shared.arm(&peer, &mut state);
            (to, state.source)
        };
        match self.send_control(to, source, HANDSHAKE_TOS, message) {
            Err(error) if source.is_some() && is_source_error(&error) => {
                lock(&peer.state).source = None;
                self.send_control(to, None, HANDSHAKE_TOS, message)?;
            }
            result => result?,
        }
        peer.counters
            .tx_bytes
            .fetch_add(message.len() as u64, Ordering::Relaxed);
        peer.counters.last_send_ns.store(now_ns, Ordering::Relaxed);
        Ok(())
    }

    fn send_control(
        &self,
        to: SocketAddr,
        source: Option<IpAddr>,
        tos: u8,
        message: &[u8],
    ) -> io::Result<()> {
        let pair = self
            .shared
            .sockets()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENETDOWN))?;
        let socket = pair
            .of(&to)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let outgoing = Outgoing {
            to,
            source,
            tos,
            ttl: 0,
            segment: 0,
            bytes: message.len(),
            pieces: 0..1,
        };
        // One whole-message piece; the slice is of ranges, hence not `[0..n]` as an array of numbers.
        let pieces = std::slice::from_ref(&(0..message.len())).to_vec();
        let mut scratch = SendScratch::default();
        let deadline = Instant::now() + CONTROL_PATIENCE;
        loop {
            let sent = socket.send_many(
                message,
                &pieces,
                std::slice::from_ref(&outgoing),
                &mut scratch,
            );
            match sent.map_err(|error| (error.kind(), error)) {
                Ok(_) => return Ok(()),
                Err((io::ErrorKind::Interrupted, _)) => {}
                Err((io::ErrorKind::WouldBlock, _)) if Instant::now() < deadline => {
                    socket.wait_for_room();
                }
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// A handshake message was authenticated by the control plane.
    pub fn handshake_received(
        &self,
        peer: u32,
        source: Source,
        size_bytes: u64,
    ) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let now_ns = boottime_ns();
        peer.counters
            .rx_bytes
            .fetch_add(size_bytes, Ordering::Relaxed);
        peer.counters
            .last_receive_ns
            .store(now_ns, Ordering::Relaxed);
        let up = self.is_up();
        let mut state = lock(&peer.state);
        self.shared.roam(&peer, &mut state, source);
        if up {
            state.timers.any_authenticated_received(now_ns);
            state.timers.any_traversal(now_ns);
            self.shared.arm(&peer, &mut state);
        }
        Ok(())
    }

    pub fn handshake_outcome(&self, source: Source, genuine: bool) {
        lock(&self.shared.gate).outcome(&source.from, genuine, boottime_ns());
    }

    pub fn attempt_over(&self, peer: u32, purge: bool) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let mut state = lock(&peer.state);
        state.asked = None;
        if purge {
            self.purge(&mut state);
        }
        Ok(())
    }

    pub fn clear_source(&self, peer: u32) -> Result<(), Error> {
        lock(&self.shared.peer(peer)?.state).source = None;
        Ok(())
    }

    pub fn stop_keepalive_timer(&self, peer: u32) -> Result<(), Error> {
        lock(&self.shared.peer(peer)?.state).timers.stop_keepalive();
        Ok(())
    }

    pub fn expire_session(&self, peer: u32) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let state = lock(&peer.state);
        for session in state.current.iter().chain(state.next.iter()) {
            session.expire();
        }
        Ok(())
    }

    pub fn zero_sessions(&self, peer: u32) -> Result<(), Error> {
        let peer = self.shared.peer(peer)?;
        let mut state = lock(&peer.state);
        self.shared.forget_indices(state.take_sessions());
        Ok(())
    }

    // ---- reading

    pub fn counters(&self) -> Vec<PeerCounters> {
        let mut peers: Vec<Arc<Peer>> = read(&self.shared.tables).peers.values().cloned().collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        let now_ns = boottime_ns();
        peers.iter().map(|peer| counters_of(peer, now_ns)).collect()
    }

    pub fn peer_counters(&self, peer: u32) -> Result<PeerCounters, Error> {
        Ok(counters_of(&*self.shared.peer(peer)?, boottime_ns()))
    }

    /// The control plane has seen the endpoint: the next change is told again.
    pub fn endpoint_seen(&self, peer: u32) {
        if let Ok(peer) = self.shared.peer(peer) {
            peer.endpoint_announced.store(false, Ordering::Relaxed);
        }
    }

    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        self.shared.drops.read()
    }

    pub fn offloads(&self) -> Vec<(&'static str, String)> {
        let state =
            |offload: &Result<(), String>| offload.clone().err().unwrap_or_else(|| "on".to_owned());
        let (mut tcp, udp) = match self.shared.device() {
            Ok(device) => (state(&device.tcp_offload), state(&device.udp_offload)),
            Err(_) => ("closed".to_owned(), "closed".to_owned()),
        };
        if self.shared.coalesce_refused.load(Ordering::Relaxed) {
            "on for reading; the kernel refused coalesced packets".clone_into(&mut tcp);
        }
        let down = || "down".to_owned();
        let (gso, gro, filter) = match self
            .shared
            .sockets()
            .as_deref()
            .and_then(|pair| pair.each().next())
        {
            Some(socket) => (
                socket.gso_state(),
                socket.gro_state(),
                socket.filter_state(),
            ),
            None => (down(), down(), down()),
        };
        vec![
            ("tun_tcp", tcp),
            ("tun_udp", udp),
            ("udp_gso", gso),
            ("udp_gro", gro),
            ("socket_filter", filter),
            ("aead", aead_backend().to_owned()),
        ]
    }
}

impl std::ops::Drop for Tunnel {
    fn drop(&mut self) {
        self.close();
    }
}

fn bind(settings: &Settings, port: u16) -> io::Result<Pair> {
    Pair::bind(port, settings.fwmark, settings.udp_offload)
}

fn counters_of(peer: &Peer, now_ns: u64) -> PeerCounters {
    let state = lock(&peer.state);
    let counters = &peer.counters;
    let (session, age_ns) = match (&state.current, &state.next) {
        (Some(current), _) => ("current", current.age_ns(now_ns)),
        (None, Some(_)) => ("next", 0),
        (None, None) => ("none", 0),
    };
    PeerCounters {
        peer: peer.id,
        rx_bytes: counters.rx_bytes.load(Ordering::Relaxed),
        tx_bytes: counters.tx_bytes.load(Ordering::Relaxed),
        rx_packets: counters.rx_packets.load(Ordering::Relaxed),
        tx_packets: counters.tx_packets.load(Ordering::Relaxed),
        endpoint: state.endpoint,
        last_receive_ns: counters.last_receive_ns.load(Ordering::Relaxed),
        last_send_ns: counters.last_send_ns.load(Ordering::Relaxed),
        staged: state.staged.len(),
        session,
        session_age_ns: age_ns,
    }
}

/// Runs one thread's loop; an error or a panic ends the tunnel and is told, never the process.
fn supervise(shared: &Arc<Shared>, name: &str, body: fn(&Arc<Shared>) -> io::Result<()>) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(shared)));
    let reason = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) if is_device_gone(&error) => {
            format!("the device {} was deleted", shared.name)
        }
        Ok(Err(error)) => format!("{name} of {}: {error}", shared.name),
        Err(_) => format!(
            "{name} of {} panicked: a bug, please report it",
            shared.name
        ),
    };
    if !shared.stop.swap(true, Ordering::AcqRel) {
        shared.transmit_wake.signal();
        shared.receive_wake.signal();
        shared.events.push(Event::DeviceGone {
            tunnel: shared.id,
            reason,
        });
    }
}
