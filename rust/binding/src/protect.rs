//! `IkePorts`, SAs and the events of IKE and ESP as Python sees them. The rules are those of `engine`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ginnel_engine::carrier as engine;
use ginnel_engine::Event;
use ginnel_esp::outer::Df;
use ginnel_esp::sa::{Limits, Mode, Terms};
use ginnel_esp::selectors::{Ports, Selector, Selectors};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::IntoPyObjectExt;

use crate::engine::{address, octets, os_error};
use crate::ike::{suite, PyKeyMaterial};

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct IkeReceived {
    message: Py<PyBytes>,
    remote: Py<PyBytes>,
    remote_port: u16,
    local: Py<PyBytes>,
    natt: bool,
}

#[pymethods]
impl IkeReceived {
    #[classattr]
    fn __match_args__() -> (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    ) {
        ("message", "remote", "remote_port", "local", "natt")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SaUsed {
    tunnel: u32,
    spi: u32,
}

#[pymethods]
impl SaUsed {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str) {
        ("tunnel", "spi")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SaExpiring {
    tunnel: u32,
    spi: u32,
    inbound: bool,
    hard: bool,
}

#[pymethods]
impl SaExpiring {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("tunnel", "spi", "inbound", "hard")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SaMissing {
    tunnel: u32,
}

#[pymethods]
impl SaMissing {
    #[classattr]
    fn __match_args__() -> (&'static str,) {
        ("tunnel",)
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SaMoved {
    tunnel: u32,
    spi: u32,
    remote: Py<PyBytes>,
    remote_port: u16,
}

#[pymethods]
impl SaMoved {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("tunnel", "spi", "remote", "remote_port")
    }
}

#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct UnknownSpi {
    spi: u32,
    remote: Py<PyBytes>,
    remote_port: u16,
    local: Py<PyBytes>,
    natt: bool,
}

#[pymethods]
impl UnknownSpi {
    #[classattr]
    fn __match_args__() -> (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    ) {
        ("spi", "remote", "remote_port", "local", "natt")
    }
}

/// The events of IKE and ESP as Python's; None for those that others have.
pub fn event(py: Python<'_>, event: Event) -> PyResult<Option<Bound<'_, PyAny>>> {
    let packed = |address: IpAddr| PyBytes::new(py, &octets(address)).unbind();
    let object = match event {
        Event::Ike {
            message,
            remote,
            local,
            natt,
        } => IkeReceived {
            message: PyBytes::new(py, &message).unbind(),
            remote: packed(remote.ip()),
            remote_port: remote.port(),
            local: packed(local),
            natt,
        }
        .into_bound_py_any(py)?,
        Event::SaUsed { tunnel, spi } => SaUsed { tunnel, spi }.into_bound_py_any(py)?,
        Event::SaExpiring {
            tunnel,
            spi,
            inbound,
            hard,
        } => SaExpiring {
            tunnel,
            spi,
            inbound,
            hard,
        }
        .into_bound_py_any(py)?,
        Event::SaMissing { tunnel } => SaMissing { tunnel }.into_bound_py_any(py)?,
        Event::SaMoved {
            tunnel,
            spi,
            remote,
        } => SaMoved {
            tunnel,
            spi,
            remote: packed(remote.ip()),
            remote_port: remote.port(),
        }
        .into_bound_py_any(py)?,
        Event::UnknownSpi {
            spi,
            remote,
            local,
            natt,
        } => UnknownSpi {
            spi,
            remote: packed(remote.ip()),
            remote_port: remote.port(),
            local: packed(local),
            natt,
        }
        .into_bound_py_any(py)?,
        _ => return Ok(None),
    };
    Ok(Some(object))
}

/// A selector as Python passes it: protocol; first and last source port and address; the same of the destination.
pub type PackedSelector = (u8, u16, u16, Vec<u8>, Vec<u8>, u16, u16, Vec<u8>, Vec<u8>);

fn selectors(packed: &[PackedSelector]) -> PyResult<Selectors> {
    let wrong = |what: &str| PyValueError::new_err(what.to_owned());
    let selectors = packed
        .iter()
        .map(
            |(protocol, first, last, from, to, dfirst, dlast, dfrom, dto)| {
                let ports = |first: u16, last: u16| Ports { first, last };
                Selector::new(
                    *protocol,
                    ports(*first, *last),
                    (address(from)?, address(to)?),
                    ports(*dfirst, *dlast),
                    (address(dfrom)?, address(dto)?),
                )
                .ok_or_else(|| {
                    wrong("expected a selector of one family whose ranges do not run backwards")
                })
            },
        )
        .collect::<PyResult<Vec<_>>>()?;
    Selectors::new(selectors).ok_or_else(|| wrong("too many selectors"))
}

/// What both directions are given alike.
pub struct Given<'a> {
    pub spi: u32,
    pub suite: &'a str,
    pub key: &'a Bound<'a, PyKeyMaterial>,
    pub integrity: &'a Bound<'a, PyKeyMaterial>,
    pub transport: bool,
    pub esn: bool,
    pub selectors: &'a [PackedSelector],
    pub limits: Limits,
    pub sequence: u64,
}

impl Given<'_> {
    /// The keys are taken, unless something else is wrong.
    pub fn association(&self) -> PyResult<engine::Association> {
        let terms = Terms {
            spi: self.spi,
            suite: suite(self.suite)?,
            mode: if self.transport {
                Mode::Transport
            } else {
                Mode::Tunnel
            },
            esn: self.esn,
            limits: self.limits,
            selectors: selectors(self.selectors)?,
        };
        Ok(engine::Association {
            terms,
            key: self.key.get().take()?,
            integrity: self.integrity.get().take()?,
            sequence: self.sequence,
        })
    }
}

/// Where an SA's packets go.
pub fn path(
    local: &[u8],
    remote: &[u8],
    local_port: u16,
    remote_port: u16,
) -> PyResult<engine::Path> {
    Ok(engine::Path {
        local: address(local)?,
        local_port,
        remote: SocketAddr::new(address(remote)?, remote_port),
    })
}

/// DF in tunnel mode by its name.
pub fn df(name: &str) -> PyResult<Df> {
    match name {
        "copy" => Ok(Df::Copy),
        "set" => Ok(Df::Set),
        "clear" => Ok(Df::Clear),
        _ => Err(PyValueError::new_err(format!(
            "expected copy, set or clear, found {name}"
        ))),
    }
}

/// One SA as the engine sees it.
#[pyclass(frozen, get_all, module = "ginnel._native")]
pub struct SaCounters {
    spi: u32,
    inbound: bool,
    packets: u64,
    bytes: u64,
    sequence: u64,
    last_ns: u64,
    drops: Py<PyDict>,
}

impl SaCounters {
    pub fn new(py: Python<'_>, from: &engine::AssociationCounters) -> PyResult<Self> {
        let drops = PyDict::new(py);
        for (name, count) in &from.drops {
            drops.set_item(name, count)?;
        }
        let counters = &from.counters;
        Ok(Self {
            spi: from.spi,
            inbound: from.inbound,
            packets: counters.packets,
            bytes: counters.bytes,
            sequence: counters.sequence,
            last_ns: counters.last_ns,
            drops: drops.unbind(),
        })
    }
}

/// IKE's and ESP's sockets of one process.
#[pyclass(frozen, module = "ginnel._native")]
pub struct IkePorts(pub Arc<engine::IkePorts>);

#[pymethods]
impl IkePorts {
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    #[getter]
    fn natt_port(&self) -> u16 {
        self.0.natt_port()
    }

    #[pyo3(signature = (message, *, local, remote, remote_port, natt))]
    fn send(
        &self,
        py: Python<'_>,
        message: &[u8],
        local: Option<&[u8]>,
        remote: &[u8],
        remote_port: u16,
        natt: bool,
    ) -> PyResult<()> {
        let local = local.map(address).transpose()?;
        let to = SocketAddr::new(address(remote)?, remote_port);
        py.detach(|| self.0.send(message, local, to, natt))
            .map_err(|error| os_error(&error, "send"))
    }

    #[pyo3(signature = (*, local, remote, remote_port))]
    fn send_keepalive(
        &self,
        py: Python<'_>,
        local: Option<&[u8]>,
        remote: &[u8],
        remote_port: u16,
    ) -> PyResult<()> {
        let local = local.map(address).transpose()?;
        let to = SocketAddr::new(address(remote)?, remote_port);
        py.detach(|| self.0.send_keepalive(local, to))
            .map_err(|error| os_error(&error, "send"))
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, count) in self.0.counters() {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<IkeReceived>()?;
    m.add_class::<SaUsed>()?;
    m.add_class::<SaExpiring>()?;
    m.add_class::<SaMissing>()?;
    m.add_class::<SaMoved>()?;
    m.add_class::<UnknownSpi>()?;
    m.add_class::<SaCounters>()?;
    m.add_class::<IkePorts>()
}
