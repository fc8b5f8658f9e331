//! `Engine`, `Tunnel` and the events as Python sees them.
//!
//! A call that may wait (system calls, closing, long lists) releases the GIL; the short ones do not, since taking it back costs more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ginnel_engine as engine;
use pyo3::exceptions::{PyKeyError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::IntoPyObjectExt;

use crate::crypto::PySecret;
use crate::plain::{self, CarrierCounters, PlainTunnel};
use crate::protect::{self, IkePorts};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A prefix as Python passes it: packed address and length.
type PackedPrefix = (Vec<u8>, u8);

pub fn os_error(error: &std::io::Error, step: &str) -> PyErr {
    let errno = error.raw_os_error().unwrap_or(libc_eio());
    let text = error.to_string();
    // Python prints the number itself.
    let text = text
        .split(" (os error ")
        .next()
        .unwrap_or_default()
        .to_owned();
    PyOSError::new_err((errno, text, step.to_owned()))
}

/// EIO, for an error that carries no number of its own.
const fn libc_eio() -> i32 {
    5
}

fn map_error(error: &engine::Error, step: &str) -> PyErr {
    match error {
        engine::Error::NoPeer(peer) => PyKeyError::new_err(*peer),
        engine::Error::NoEndpoint => os_error(&std::io::Error::from_raw_os_error(89), step),
        engine::Error::NoIndex(index) => {
            PyValueError::new_err(format!("index {index:#010x} is not reserved for this peer"))
        }
        engine::Error::Io(error) => os_error(error, step),
    }
}

pub fn address(packed: &[u8]) -> PyResult<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(packed) {
        Ok(IpAddr::V4(Ipv4Addr::from(octets)))
    } else if let Ok(octets) = <[u8; 16]>::try_from(packed) {
        Ok(IpAddr::V6(Ipv6Addr::from(octets)))
    } else {
        Err(PyValueError::new_err(format!(
            "expected a packed address of 4 or 16 bytes, found {}",
            packed.len()
        )))
    }
}

/// A descriptor that the caller hands over.
fn descriptor(fd: Option<i32>) -> PyResult<Option<OwnedFd>> {
    match fd {
        None => Ok(None),
        // SAFETY: the caller hands the descriptor over, as the stub says; a negative number is refused here.
        #[allow(unsafe_code)]
        Some(fd) if fd >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Some(fd) => Err(PyValueError::new_err(format!(
            "expected a descriptor, found {fd}"
        ))),
    }
}

fn prefixes(packed: &[PackedPrefix]) -> PyResult<Vec<(IpAddr, u8)>> {
    packed
        .iter()
        .map(|(octets, length)| {
            let address = address(octets)?;
            if usize::from(*length) > octets.len() * 8 {
                return Err(PyValueError::new_err(format!(
                    "expected a length up to {}, found {length}",
                    octets.len() * 8
                )));
            }
            Ok((address, *length))
        })
        .collect()
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn scope_id(address: &SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

/// Where a datagram came from and to which local address.
#[pyclass(frozen, module = "ginnel._native", skip_from_py_object)]
#[derive(Clone)]
pub struct Source(engine::Source);

#[pymethods]
impl Source {
    #[getter]
    fn packed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &octets(self.0.from.ip()))
    }

    #[getter]
    fn port(&self) -> u16 {
        self.0.from.port()
    }

    #[getter]
    fn scope_id(&self) -> u32 {
        scope_id(&self.0.from)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("Source({})", self.0.from)
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct HandshakeReceived {
    tunnel: u32,
    message: Py<PyBytes>,
    source: Py<Source>,
}

#[pymethods]
impl HandshakeReceived {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("tunnel", "message", "source")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SessionNeeded {
    tunnel: u32,
    peer: u32,
    reason: &'static str,
}

#[pymethods]
impl SessionNeeded {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("tunnel", "peer", "reason")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SessionConfirmed {
    tunnel: u32,
    peer: u32,
    index: u32,
}

#[pymethods]
impl SessionConfirmed {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("tunnel", "peer", "index")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct EndpointChanged {
    tunnel: u32,
    peer: u32,
}

#[pymethods]
impl EndpointChanged {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str) {
        ("tunnel", "peer")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct DeviceGone {
    tunnel: u32,
    reason: String,
}

#[pymethods]
impl DeviceGone {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str) {
        ("tunnel", "reason")
    }
}

/// One peer as the engine sees it.
#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct PeerCounters {
    peer: u32,
    rx_bytes: u64,
    tx_bytes: u64,
    rx_packets: u64,
    tx_packets: u64,
    endpoint: Option<(Py<PyBytes>, u16, u32)>,
    last_receive_ns: u64,
    last_send_ns: u64,
    staged: usize,
    session: &'static str,
    session_age_ns: u64,
}

impl PeerCounters {
    fn new(py: Python<'_>, from: &engine::PeerCounters) -> Self {
        Self {
            peer: from.peer,
            rx_bytes: from.rx_bytes,
            tx_bytes: from.tx_bytes,
            rx_packets: from.rx_packets,
            tx_packets: from.tx_packets,
            endpoint: from.endpoint.map(|at| {
                (
                    PyBytes::new(py, &octets(at.ip())).unbind(),
                    at.port(),
                    scope_id(&at),
                )
            }),
            last_receive_ns: from.last_receive_ns,
            last_send_ns: from.last_send_ns,
            staged: from.staged,
            session: from.session,
            session_age_ns: from.session_age_ns,
        }
    }
}

/// All tunnels of one process, one eventfd, one batch of events.
#[pyclass(frozen, module = "ginnel._native")]
pub struct Engine {
    events: Arc<engine::Events>,
    tunnels: Mutex<Vec<Arc<engine::Tunnel>>>,
    plain: Mutex<Vec<Arc<engine::carrier::PlainTunnel>>>,
    ike: Mutex<Option<Arc<engine::carrier::IkePorts>>>,
    /// Made with the first plain tunnel, or the ports of IKE.
    carrier: Mutex<Option<Arc<engine::carrier::Carrier>>>,
    next_tunnel: AtomicU32,
    process: u32,
}

impl Engine {
    /// A forked child has the memory but not the threads: nothing would ever move.
    fn check_process(&self) -> PyResult<()> {
        if std::process::id() == self.process {
            Ok(())
        } else {
            Err(PyRuntimeError::new_err(
                "the engine does not survive a fork: make a new one in the child",
            ))
        }
    }

    fn tunnels(&self) -> MutexGuard<'_, Vec<Arc<engine::Tunnel>>> {
        lock(&self.tunnels)
    }

    fn started_carrier(&self) -> PyResult<Arc<engine::carrier::Carrier>> {
        let mut carrier = lock(&self.carrier);
        if let Some(carrier) = &*carrier {
            return Ok(carrier.clone());
        }
        let started = engine::carrier::Carrier::start(self.events.clone());
        let started = started.map_err(|error| os_error(&error, "threads"))?;
        Ok(carrier.insert(Arc::new(started)).clone())
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn new() -> PyResult<Self> {
        let events = engine::Events::new().map_err(|error| os_error(&error, "eventfd"))?;
        Ok(Self {
            events: Arc::new(events),
            tunnels: Mutex::new(Vec::new()),
            plain: Mutex::new(Vec::new()),
            ike: Mutex::new(None),
            carrier: Mutex::new(None),
            next_tunnel: AtomicU32::new(1),
            process: std::process::id(),
        })
    }

    #[getter]
    fn eventfd(&self) -> i32 {
        self.events.as_raw_fd()
    }

    #[pyo3(signature = (limit = 256))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        self.check_process()?;
        let list = PyList::empty(py);
        for event in self.events.drain(limit) {
            let object = match event {
                engine::Event::Handshake {
                    tunnel,
                    message,
                    len,
                    source,
                } => {
                    let message = PyBytes::new(py, &message[..len]).unbind();
                    let source = Py::new(py, Source(source))?;
                    HandshakeReceived {
                        tunnel,
                        message,
                        source,
                    }
                    .into_bound_py_any(py)?
                }
                engine::Event::SessionNeeded { tunnel, peer, need } => {
                    let reason = match need {
                        engine::Need::Packets => "packets",
                        engine::Need::Ageing => "ageing",
                        engine::Need::Silent => "silent",
                        engine::Need::Keepalive => "keepalive",
                    };
                    SessionNeeded {
                        tunnel,
                        peer,
                        reason,
                    }
                    .into_bound_py_any(py)?
                }
                engine::Event::SessionConfirmed {
                    tunnel,
                    peer,
                    index,
                } => SessionConfirmed {
                    tunnel,
                    peer,
                    index,
                }
                .into_bound_py_any(py)?,
                engine::Event::EndpointChanged { tunnel, peer } => {
                    if let Some(tunnel) = self
                        .tunnels()
                        .iter()
                        .find(|candidate| candidate.id() == tunnel)
                    {
                        tunnel.endpoint_seen(peer);
                    } else if let Some(tunnel) = lock(&self.plain)
                        .iter()
                        .find(|candidate| candidate.id() == tunnel)
                    {
                        tunnel.endpoint_seen();
                    }
                    EndpointChanged { tunnel, peer }.into_bound_py_any(py)?
                }
                engine::Event::DeviceGone { tunnel, reason } => {
                    DeviceGone { tunnel, reason }.into_bound_py_any(py)?
                }
                told @ (engine::Event::Control { .. }
                | engine::Event::PathError { .. }
                | engine::Event::Mismatch { .. }) => match plain::event(py, told)? {
                    Some(object) => object,
                    None => continue,
                },
                told => match protect::event(py, told)? {
                    Some(object) => object,
                    None => continue,
                },
            };
            list.append(object)?;
        }
        Ok(list)
    }

    #[pyo3(signature = (name, *, mtu = 1420, tun_fd = None, tun_offload = true, udp_offload = true))]
    fn wireguard(
        &self,
        py: Python<'_>,
        name: String,
        mtu: u16,
        tun_fd: Option<i32>,
        tun_offload: bool,
        udp_offload: bool,
    ) -> PyResult<Tunnel> {
        self.check_process()?;
        let tun_fd = descriptor(tun_fd)?;
        let id = self.next_tunnel.fetch_add(1, Ordering::Relaxed);
        let options = engine::Options {
            name,
            mtu,
            tun_fd,
            tun_offload,
            udp_offload,
        };
        let events = self.events.clone();
        let tunnel = py
            .detach(|| engine::Tunnel::open(id, options, events))
            .map_err(|error| os_error(&error.source, &error.step))?;
        let tunnel = Arc::new(tunnel);
        let mut tunnels = self.tunnels();
        tunnels.retain(|tunnel| !tunnel.is_closed());
        tunnels.push(tunnel.clone());
        drop(tunnels);
        Ok(Tunnel(tunnel))
    }

    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    #[pyo3(signature = (name, *, kind, local, remote, ikey = None, okey = None, icsum = false, ocsum = false, iseq = false, oseq = false, ttl = 0,
        tos = 0, tos_inherit = false, pmtudisc = true, ignore_df = false, encaplimit = None, flowlabel = None, udp = None, tolerant = false,
        fwmark = 0, device = 0, mtu = 1476, tun_fd = None, tun_offload = true, udp_offload = true,
        protected = false))]
    fn plain(
        &self,
        py: Python<'_>,
        name: String,
        kind: &str,
        local: Option<&[u8]>,
        remote: Option<&[u8]>,
        ikey: Option<u32>,
        okey: Option<u32>,
        icsum: bool,
        ocsum: bool,
        iseq: bool,
        oseq: bool,
        ttl: u8,
        tos: u8,
        tos_inherit: bool,
        pmtudisc: bool,
        ignore_df: bool,
        encaplimit: Option<u8>,
        flowlabel: Option<u32>,
        udp: Option<(u16, u16, u16)>,
        tolerant: bool,
        fwmark: u32,
        device: u32,
        mtu: u16,
        tun_fd: Option<i32>,
        tun_offload: bool,
        udp_offload: bool,
        protected: bool,
    ) -> PyResult<PlainTunnel> {
        self.check_process()?;
        let tun_fd = descriptor(tun_fd)?;
        let bare = kind == plain::BARE;
        // Without encapsulation there are no ends but those of the SAs.
        let (local, remote) = if bare { (None, None) } else { (local, remote) };
        let options = plain::options(
            plain::kind(kind)?,
            local,
            remote,
            (ikey, okey),
            (icsum, ocsum),
            (iseq, oseq),
            ttl,
            (tos, tos_inherit),
            pmtudisc,
            ignore_df,
            encaplimit,
            flowlabel,
            udp,
            tolerant,
            device,
        )?;
        let id = self.next_tunnel.fetch_add(1, Ordering::Relaxed);
        let given = engine::carrier::PlainOptions {
            name,
            options,
            fwmark,
            mtu,
            tun_fd,
            tun_offload,
            udp_offload,
            protected: (protected || bare).then_some(bare),
        };
        let tunnel = py.detach(|| {
            let opened = self.started_carrier()?.open(id, given);
            opened.map_err(|error| plain::map_error(&error))
        })?;
        let tunnel = Arc::new(tunnel);
        let mut tunnels = lock(&self.plain);
        tunnels.retain(|tunnel| !tunnel.is_closed());
        tunnels.push(tunnel.clone());
        drop(tunnels);
        Ok(PlainTunnel(tunnel))
    }

    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // extracted from Python, owned either way
    #[pyo3(signature = (*, port = 500, natt_port = 4500, fwmark = 0, device = 0, families = vec![4, 6], udp_offload = true))]
    fn ike(
        &self,
        py: Python<'_>,
        port: u16,
        natt_port: u16,
        fwmark: u32,
        device: u32,
        families: Vec<u8>,
        udp_offload: bool,
    ) -> PyResult<IkePorts> {
        self.check_process()?;
        if port == 0 || natt_port == 0 || port == natt_port {
            return Err(PyValueError::new_err(format!(
                "expected two ports that are not 0 and differ, found {port} and {natt_port}"
            )));
        }
        if families.is_empty() || families.iter().any(|family| !matches!(family, 4 | 6)) {
            return Err(PyValueError::new_err(format!(
                "expected families 4, 6 or both, found {families:?}"
            )));
        }
        let options = engine::carrier::IkeOptions {
            port,
            natt_port,
            fwmark,
            device,
            v4: families.contains(&4),
            v6: families.contains(&6),
            udp_offload,
        };
        let ports = py.detach(|| {
            let opened = self.started_carrier()?.ike(options);
            opened.map_err(|error| os_error(&error.source, &error.step))
        })?;
        let ports = Arc::new(ports);
        *lock(&self.ike) = Some(ports.clone());
        Ok(IkePorts(ports))
    }

    fn carrier(&self, py: Python<'_>) -> PyResult<CarrierCounters> {
        let carrier = lock(&self.carrier).clone();
        let counters = py.detach(|| carrier.map(|carrier| carrier.counters()));
        CarrierCounters::new(py, counters.as_ref())
    }

    fn close(&self, py: Python<'_>) {
        let tunnels = std::mem::take(&mut *self.tunnels());
        let plain = std::mem::take(&mut *lock(&self.plain));
        let ike = lock(&self.ike).take();
        let carrier = lock(&self.carrier).take();
        if self.check_process().is_ok() {
            py.detach(|| {
                for tunnel in &tunnels {
                    tunnel.close();
                }
                engine::carrier::Carrier::close_all(&plain);
                if let Some(ike) = ike {
                    ike.close();
                }
                if let Some(carrier) = carrier {
                    carrier.close();
                }
            });
        }
    }
}

/// One WireGuard interface.
#[pyclass(frozen, module = "ginnel._native")]
pub struct Tunnel(Arc<engine::Tunnel>);

#[pymethods]
impl Tunnel {
    #[getter]
    fn id(&self) -> u32 {
        self.0.id()
    }

    #[getter]
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    #[getter]
    fn tun_fd(&self) -> PyResult<i32> {
        self.0.tun_fd().map_err(|error| os_error(&error, "tun_fd"))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }

    fn up(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.up())
            .map_err(|error| os_error(&error, "bind"))
    }

    fn down(&self, py: Python<'_>) {
        py.detach(|| self.0.down());
    }

    #[getter]
    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn set_private_key(&self, key: Option<&Bound<'_, PySecret>>) -> PyResult<()> {
        let key = key.map(|key| key.get().duplicate()).transpose()?;
        self.0.set_private_key(key.as_ref());
        Ok(())
    }

    fn set_listen_port(&self, py: Python<'_>, port: u16) -> PyResult<()> {
        py.detach(|| self.0.set_listen_port(port))
            .map_err(|error| os_error(&error, "bind"))
    }

    #[getter]
    fn listen_port(&self) -> u16 {
        self.0.listen_port()
    }

    fn set_fwmark(&self, mark: u32) -> PyResult<()> {
        self.0
            .set_fwmark(mark)
            .map_err(|error| os_error(&error, "SO_MARK"))
    }

    fn set_mtu(&self, mtu: u16) {
        self.0.set_mtu(mtu);
    }

    fn clear_sources(&self, py: Python<'_>) {
        py.detach(|| self.0.clear_sources());
    }

    fn add_peer(&self, public_key: &[u8]) -> PyResult<u32> {
        if public_key.len() == 32 {
            Ok(self.0.add_peer())
        } else {
            Err(PyValueError::new_err(format!(
                "expected a key of 32 bytes, found {}",
                public_key.len()
            )))
        }
    }

    fn remove_peer(&self, peer: u32) -> PyResult<()> {
        self.0
            .remove_peer(peer)
            .map_err(|error| map_error(&error, "remove_peer"))
    }

    #[pyo3(signature = (peer, packed, port, scope_id = 0))]
    fn set_endpoint(&self, peer: u32, packed: &[u8], port: u16, scope_id: u32) -> PyResult<()> {
        let endpoint = match address(packed)? {
            IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), port),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id)),
        };
        self.0
            .set_endpoint(peer, endpoint)
            .map_err(|error| map_error(&error, "set_endpoint"))
    }

    fn set_keepalive(&self, peer: u32, interval_s: u16) -> PyResult<()> {
        self.0
            .set_keepalive(peer, interval_s)
            .map_err(|error| map_error(&error, "set_keepalive"))
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python, owned either way
    #[pyo3(signature = (peer, prefixes, replace))]
    fn set_allowed_ips(
        &self,
        py: Python<'_>,
        peer: u32,
        prefixes: Vec<PackedPrefix>,
        replace: bool,
    ) -> PyResult<()> {
        let list = self::prefixes(&prefixes)?;
        let set = || self.0.set_allowed_ips(peer, &list, replace);
        let result = if list.len() > 64 {
            py.detach(set)
        } else {
            set()
        };
        result.map_err(|error| map_error(&error, "set_allowed_ips"))
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python, owned either way
    fn remove_allowed_ips(&self, peer: u32, prefixes: Vec<PackedPrefix>) -> PyResult<()> {
        let list = self::prefixes(&prefixes)?;
        self.0
            .remove_allowed_ips(peer, &list)
            .map_err(|error| map_error(&error, "remove_allowed_ips"))
    }

    fn allowed_ips<'py>(&self, py: Python<'py>, peer: u32) -> PyResult<Bound<'py, PyList>> {
        let list = self
            .0
            .allowed_ips(peer)
            .map_err(|error| map_error(&error, "allowed_ips"))?;
        PyList::new(
            py,
            list.into_iter()
                .map(|(address, length)| (PyBytes::new(py, &octets(address)), length)),
        )
    }

    fn flush(&self, peer: u32) -> PyResult<()> {
        self.0
            .flush(peer)
            .map_err(|error| map_error(&error, "flush"))
    }

    fn reserve_index(&self, peer: u32) -> PyResult<u32> {
        self.0
            .reserve_index(peer)
            .map_err(|error| map_error(&error, "reserve_index"))
    }

    fn release_index(&self, index: u32) {
        self.0.release_index(index);
    }

    fn install_session(
        &self,
        peer: u32,
        local_index: u32,
        remote_index: u32,
        send: &Bound<'_, PySecret>,
        receive: &Bound<'_, PySecret>,
        initiator: bool,
    ) -> PyResult<()> {
        let (send, receive) = (send.get().take()?, receive.get().take()?);
        self.0
            .install_session(peer, local_index, remote_index, &send, &receive, initiator)
            .map_err(|error| map_error(&error, "install_session"))
    }

    fn send_handshake(&self, py: Python<'_>, peer: u32, message: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.send_handshake(peer, message))
            .map_err(|error| map_error(&error, "send_handshake"))
    }

    fn handshake_received(&self, peer: u32, source: &Source, size_bytes: u64) -> PyResult<()> {
        self.0
            .handshake_received(peer, source.0, size_bytes)
            .map_err(|error| map_error(&error, "handshake_received"))
    }

    fn handshake_outcome(&self, source: &Source, genuine: bool) {
        self.0.handshake_outcome(source.0, genuine);
    }

    fn attempt_over(&self, peer: u32, purge: bool) -> PyResult<()> {
        self.0
            .attempt_over(peer, purge)
            .map_err(|error| map_error(&error, "attempt_over"))
    }

    fn clear_source(&self, peer: u32) -> PyResult<()> {
        self.0
            .clear_source(peer)
            .map_err(|error| map_error(&error, "clear_source"))
    }

    fn stop_keepalive_timer(&self, peer: u32) -> PyResult<()> {
        self.0
            .stop_keepalive_timer(peer)
            .map_err(|error| map_error(&error, "stop_keepalive_timer"))
    }

    fn expire_session(&self, peer: u32) -> PyResult<()> {
        self.0
            .expire_session(peer)
            .map_err(|error| map_error(&error, "expire_session"))
    }

    fn zero_sessions(&self, peer: u32) -> PyResult<()> {
        self.0
            .zero_sessions(peer)
            .map_err(|error| map_error(&error, "zero_sessions"))
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = py.detach(|| self.0.counters());
        let objects: Vec<PeerCounters> = list
            .iter()
            .map(|from| PeerCounters::new(py, from))
            .collect();
        PyList::new(
            py,
            objects
                .into_iter()
                .map(|counters| counters.into_bound_py_any(py))
                .collect::<PyResult<Vec<_>>>()?,
        )
    }

    fn peer_counters(&self, py: Python<'_>, peer: u32) -> PyResult<PeerCounters> {
        let counters = self
            .0
            .peer_counters(peer)
            .map_err(|error| map_error(&error, "peer_counters"))?;
        Ok(PeerCounters::new(py, &counters))
    }

    fn drops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, count) in self.0.drops() {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    fn offloads<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, state) in self.0.offloads() {
            dict.set_item(name, state)?;
        }
        Ok(dict)
    }
}

fn constants(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    use ginnel_wireguard::constants as c;
    let dict = PyDict::new(py);
    for (name, value) in [
        ("REKEY_AFTER_MESSAGES", c::REKEY_AFTER_MESSAGES),
        ("REJECT_AFTER_MESSAGES", c::REJECT_AFTER_MESSAGES),
        ("REKEY_AFTER_TIME_NS", c::REKEY_AFTER_TIME_NS),
        ("REJECT_AFTER_TIME_NS", c::REJECT_AFTER_TIME_NS),
        ("REKEY_TIMEOUT_NS", c::REKEY_TIMEOUT_NS),
        (
            "REKEY_TIMEOUT_JITTER_MAX_NS",
            c::REKEY_TIMEOUT_JITTER_MAX_NS,
        ),
        ("REKEY_ATTEMPT_TIME_NS", c::REKEY_ATTEMPT_TIME_NS),
        ("MAX_TIMER_HANDSHAKES", u64::from(c::MAX_TIMER_HANDSHAKES)),
        ("KEEPALIVE_TIMEOUT_NS", c::KEEPALIVE_TIMEOUT_NS),
        ("ZERO_KEY_MATERIAL_TIME_NS", c::ZERO_KEY_MATERIAL_TIME_NS),
        ("COOKIE_SECRET_MAX_AGE_NS", c::COOKIE_SECRET_MAX_AGE_NS),
        ("COOKIE_SECRET_LATENCY_NS", c::COOKIE_SECRET_LATENCY_NS),
        ("INITIATION_INTERVAL_NS", c::INITIATION_INTERVAL_NS),
        ("REKEY_ON_RECEIVE_TIME_NS", c::REKEY_ON_RECEIVE_TIME_NS),
        ("NEW_HANDSHAKE_TIME_NS", c::NEW_HANDSHAKE_TIME_NS),
        ("MAX_QUEUED_HANDSHAKES", c::MAX_QUEUED_HANDSHAKES as u64),
        ("MAX_STAGED_PACKETS", c::MAX_STAGED_PACKETS as u64),
        ("INITIATION_SIZE", c::INITIATION_SIZE as u64),
        ("RESPONSE_SIZE", c::RESPONSE_SIZE as u64),
        ("COOKIE_REPLY_SIZE", c::COOKIE_REPLY_SIZE as u64),
    ] {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("CONSTANTS", constants(m.py())?)?;
    m.add_class::<Source>()?;
    m.add_class::<HandshakeReceived>()?;
    m.add_class::<SessionNeeded>()?;
    m.add_class::<SessionConfirmed>()?;
    m.add_class::<EndpointChanged>()?;
    m.add_class::<DeviceGone>()?;
    m.add_class::<PeerCounters>()?;
    m.add_class::<Engine>()?;
    m.add_class::<Tunnel>()
}
