//! `PlainTunnel`, its counters and its events as Python sees them. The rules are those of `engine`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ginnel_engine::carrier as engine;
use ginnel_engine::sys::clock::boottime_ns;
use ginnel_engine::{Event, PathErrorKind};
use ginnel_esp::outer::Rules;
use ginnel_esp::sa::Limits;
use ginnel_gre::options::{Kind, Options, Udp};
use pyo3::exceptions::{PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::IntoPyObjectExt;

use crate::engine::{address, octets, os_error};
use crate::ike::PyKeyMaterial;
use crate::protect::{df, path, Given, PackedSelector, SaCounters};

/// The kind that has no encapsulation but ESP's own.
pub const BARE: &str = "ipsec";
/// EEXIST: with it Python makes the OSError a FileExistsError.
const EEXIST: i32 = 17;

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct ControlReceived {
    tunnel: u32,
    kind: &'static str,
    protocol: u16,
    packet: Py<PyBytes>,
}

#[pymethods]
impl ControlReceived {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("tunnel", "kind", "protocol", "packet")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct PathError {
    tunnel: u32,
    kind: &'static str,
    code: u8,
    mtu: u32,
    origin: Py<PyBytes>,
}

#[pymethods]
impl PathError {
    #[classattr]
    fn __match_args__() -> (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    ) {
        ("tunnel", "kind", "code", "mtu", "origin")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct Mismatch {
    tunnel: u32,
    reason: &'static str,
    seen: Option<u32>,
    remote: Py<PyBytes>,
}

#[pymethods]
impl Mismatch {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("tunnel", "reason", "seen", "remote")
    }
}

/// The events of plain tunnels as Python's; None for those that others have.
pub fn event(py: Python<'_>, event: Event) -> PyResult<Option<Bound<'_, PyAny>>> {
    let packed = |address: Option<IpAddr>| {
        let bytes = address.map_or_else(Vec::new, octets);
        PyBytes::new(py, &bytes).unbind()
    };
    let object = match event {
        Event::Control {
            tunnel,
            returned,
            protocol,
            packet,
        } => ControlReceived {
            tunnel,
            kind: if returned { "returned" } else { "asked" },
            protocol,
            packet: PyBytes::new(py, &packet).unbind(),
        }
        .into_bound_py_any(py)?,
        Event::PathError {
            tunnel,
            kind,
            code,
            mtu,
            origin,
        } => PathError {
            tunnel,
            kind: match kind {
                PathErrorKind::TooBig => "too-big",
                PathErrorKind::Unreachable => "unreachable",
                PathErrorKind::TimeExceeded => "time-exceeded",
                PathErrorKind::Other => "other",
            },
            code,
            mtu,
            origin: packed(origin),
        }
        .into_bound_py_any(py)?,
        Event::Mismatch {
            tunnel,
            reason,
            seen,
            remote,
        } => Mismatch {
            tunnel,
            reason,
            seen,
            remote: packed(Some(remote)),
        }
        .into_bound_py_any(py)?,
        _ => return Ok(None),
    };
    Ok(Some(object))
}

pub fn map_error(error: &engine::PlainError) -> PyErr {
    match error {
        engine::PlainError::Invalid(why) => PyValueError::new_err(why.clone()),
        engine::PlainError::Exists(name) => {
            let text = "another tunnel has the same ends and key";
            PyOSError::new_err((EEXIST, text, name.clone()))
        }
        engine::PlainError::Open(error) => os_error(&error.source, &error.step),
        engine::PlainError::NoSa => PyKeyError::new_err("there is no outbound SA"),
    }
}

/// The kind by its name.
pub fn kind(name: &str) -> PyResult<Kind> {
    match name {
        "gre" => Ok(Kind::Gre),
        "gretap" => Ok(Kind::GreTap),
        "ipip" => Ok(Kind::Ipip),
        "sit" => Ok(Kind::Sit),
        // What a tunnel without encapsulation carries is what an ip6tnl carries.
        "ip6tnl" | BARE => Ok(Kind::Ip6Tnl),
        _ => Err(PyValueError::new_err(format!(
            "expected gre, gretap, ipip, sit, ip6tnl or {BARE}, found {name}"
        ))),
    }
}

fn end(packed: Option<&[u8]>) -> PyResult<Option<IpAddr>> {
    packed.map(address).transpose()
}

/// The options that Python passes one by one.
#[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
pub fn options(
    kind: Kind,
    local: Option<&[u8]>,
    remote: Option<&[u8]>,
    keys: (Option<u32>, Option<u32>),
    checksums: (bool, bool),
    sequences: (bool, bool),
    ttl: u8,
    tos: (u8, bool),
    pmtudisc: bool,
    ignore_df: bool,
    encaplimit: Option<u8>,
    flowlabel: Option<u32>,
    udp: Option<(u16, u16, u16)>,
    tolerant: bool,
    device: u32,
) -> PyResult<Options> {
    if let Some(label) = flowlabel.filter(|label| *label > 0xf_ffff) {
        return Err(PyValueError::new_err(format!(
            "expected a flow label of 20 bits, found {label:#x}"
        )));
    }
    Ok(Options {
        kind,
        local: end(local)?,
        remote: end(remote)?,
        ikey: keys.0,
        okey: keys.1,
        icsum: checksums.0,
        ocsum: checksums.1,
        iseq: sequences.0,
        oseq: sequences.1,
        ttl,
        tos: tos.0,
        tos_inherit: tos.1,
        pmtudisc,
        ignore_df,
        encaplimit,
        flowlabel,
        udp: udp.map(|(listen, source, destination)| Udp {
            listen,
            source,
            destination,
        }),
        device,
        tolerant,
    })
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct PlainCounters {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    last_receive_ns: u64,
    last_send_ns: u64,
    remote: Option<(Py<PyBytes>, u16)>,
    sequence_out: u32,
    sequence_in: Option<u32>,
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct CarrierCounters {
    no_tunnel: u64,
    at_socket: u64,
    sockets: Py<PyDict>,
}

impl CarrierCounters {
    /// All zero before the first plain tunnel.
    pub fn new(py: Python<'_>, from: Option<&engine::CarrierCounters>) -> PyResult<Self> {
        let sockets = PyDict::new(py);
        for (name, state) in from.iter().flat_map(|from| &from.sockets) {
            sockets.set_item(name, state)?;
        }
        Ok(Self {
            no_tunnel: from.map_or(0, |from| from.no_tunnel),
            at_socket: from.map_or(0, |from| from.at_socket),
            sockets: sockets.unbind(),
        })
    }
}

/// One tunnel that is not WireGuard's, with protection or without.
#[pyclass(frozen, module = "ginnel._native")]
pub struct PlainTunnel(pub Arc<engine::PlainTunnel>);

#[pymethods]
impl PlainTunnel {
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

    #[getter]
    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn up(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.up())
            .map_err(|error| os_error(&error, "socket"))
    }

    fn down(&self, py: Python<'_>) {
        py.detach(|| self.0.down());
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }

    fn set_mtu(&self, mtu: u16) {
        self.0.set_mtu(mtu);
    }

    fn set_path_mtu(&self, mtu: usize) {
        self.0.set_path_mtu(mtu);
    }

    fn set_hold(&self, held: bool) {
        self.0.set_hold(held);
    }

    fn set_unreachable(&self, packets: u32, until_ns: u64) {
        self.0.set_unreachable(packets, until_ns);
    }

    #[pyo3(signature = (local, remote))]
    fn set_ends(
        &self,
        py: Python<'_>,
        local: Option<&[u8]>,
        remote: Option<&[u8]>,
    ) -> PyResult<()> {
        let (local, remote) = (end(local)?, end(remote)?);
        py.detach(|| self.0.set_ends(local, remote))
            .map_err(|error| map_error(&error))
    }

    fn send_control(&self, protocol: u16, payload: &[u8]) -> PyResult<()> {
        self.0
            .send_control(protocol, payload)
            .map_err(|error| map_error(&error))
    }

    fn send_back(&self, packet: &[u8]) -> PyResult<()> {
        self.0.send_back(packet).map_err(|error| map_error(&error))
    }

    fn reserve_spi(&self, py: Python<'_>) -> PyResult<u32> {
        py.detach(|| self.0.reserve_spi(boottime_ns()))
            .map_err(|error| map_error(&error))
    }

    fn release_spi(&self, py: Python<'_>, spi: u32) -> PyResult<()> {
        py.detach(|| self.0.release_spi(spi))
            .map_err(|error| map_error(&error))
    }

    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // extracted from Python, owned either way
    #[pyo3(signature = (spi, *, suite, key, integrity, transport, esn = false, replay_window = 1024, selectors = vec![], soft_bytes = 0,
        hard_bytes = 0, soft_packets = 0, hard_packets = 0, hard_ns = 0, sequence = 0))]
    fn add_inbound(
        &self,
        py: Python<'_>,
        spi: u32,
        suite: &str,
        key: &Bound<'_, PyKeyMaterial>,
        integrity: &Bound<'_, PyKeyMaterial>,
        transport: bool,
        esn: bool,
        replay_window: u32,
        selectors: Vec<PackedSelector>,
        soft_bytes: u64,
        hard_bytes: u64,
        soft_packets: u64,
        hard_packets: u64,
        hard_ns: u64,
        sequence: u64,
    ) -> PyResult<()> {
        let given = Given {
            spi,
            suite,
            key,
            integrity,
            transport,
            esn,
            selectors: &selectors,
            limits: Limits {
                soft_bytes,
                hard_bytes,
                soft_packets,
                hard_packets,
                hard_ns,
            },
            sequence,
        };
        let given = given.association()?;
        py.detach(|| self.0.add_inbound(given, replay_window))
            .map_err(|error| map_error(&error))
    }

    fn remove_inbound(&self, py: Python<'_>, spi: u32) -> PyResult<()> {
        py.detach(|| self.0.remove_inbound(spi))
            .map_err(|error| map_error(&error))
    }

    #[allow(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        clippy::fn_params_excessive_bools
    )] // as above
    #[pyo3(signature = (spi, *, suite, key, integrity, transport, esn = false, local, remote, local_port = 0, remote_port = 0,
        selectors = vec![], dscp = true, df = "copy", soft_bytes = 0, hard_bytes = 0, soft_packets = 0, hard_packets = 0, hard_ns = 0,
        sequence = 0))]
    fn set_outbound(
        &self,
        py: Python<'_>,
        spi: u32,
        suite: &str,
        key: &Bound<'_, PyKeyMaterial>,
        integrity: &Bound<'_, PyKeyMaterial>,
        transport: bool,
        esn: bool,
        local: &[u8],
        remote: &[u8],
        local_port: u16,
        remote_port: u16,
        selectors: Vec<PackedSelector>,
        dscp: bool,
        df: &str,
        soft_bytes: u64,
        hard_bytes: u64,
        soft_packets: u64,
        hard_packets: u64,
        hard_ns: u64,
        sequence: u64,
    ) -> PyResult<()> {
        let path = path(local, remote, local_port, remote_port)?;
        let rules = Rules {
            dscp,
            df: self::df(df)?,
        };
        let given = Given {
            spi,
            suite,
            key,
            integrity,
            transport,
            esn,
            selectors: &selectors,
            limits: Limits {
                soft_bytes,
                hard_bytes,
                soft_packets,
                hard_packets,
                hard_ns,
            },
            sequence,
        };
        let given = given.association()?;
        py.detach(|| self.0.set_outbound(given, path, rules))
            .map_err(|error| map_error(&error))
    }

    fn set_outbound_path(
        &self,
        py: Python<'_>,
        local: &[u8],
        remote: &[u8],
        local_port: u16,
        remote_port: u16,
    ) -> PyResult<()> {
        let path = path(local, remote, local_port, remote_port)?;
        py.detach(|| self.0.set_outbound_path(path))
            .map_err(|error| map_error(&error))
    }

    fn clear_outbound(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.clear_outbound())
            .map_err(|error| map_error(&error))
    }

    fn associations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = py.detach(|| self.0.associations());
        let list = list.map_err(|error| map_error(&error))?;
        let objects: PyResult<Vec<SaCounters>> =
            list.iter().map(|from| SaCounters::new(py, from)).collect();
        let objects = objects?.into_iter().map(|one| one.into_bound_py_any(py));
        PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?)
    }

    fn counters(&self, py: Python<'_>) -> PlainCounters {
        let from = self.0.counters();
        let remote = |at: SocketAddr| (PyBytes::new(py, &octets(at.ip())).unbind(), at.port());
        PlainCounters {
            rx_packets: from.rx_packets,
            rx_bytes: from.rx_bytes,
            tx_packets: from.tx_packets,
            tx_bytes: from.tx_bytes,
            last_receive_ns: from.last_receive_ns,
            last_send_ns: from.last_send_ns,
            remote: from.remote.map(remote),
            sequence_out: from.sequence_out,
            sequence_in: from.sequence_in,
        }
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

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ControlReceived>()?;
    m.add_class::<PathError>()?;
    m.add_class::<Mismatch>()?;
    m.add_class::<PlainCounters>()?;
    m.add_class::<CarrierCounters>()?;
    m.add_class::<PlainTunnel>()
}
