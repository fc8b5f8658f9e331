//! `ginnel._native.Relay`: the lab's faulty link, over the crate `ginnel-relay`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ginnel_relay::{Faults, Relay};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

#[pyclass(name = "Relay", module = "ginnel._native", frozen)]
pub struct PyRelay(Mutex<Relay>);

impl PyRelay {
    fn with<T>(&self, work: impl FnOnce(&mut Relay) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn os_error(error: &std::io::Error, step: &str) -> PyErr {
    let errno = error.raw_os_error().unwrap_or(0);
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    PyOSError::new_err((errno, text, step.to_owned()))
}

fn share(name: &str, value: f64) -> PyResult<f64> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(PyValueError::new_err(format!(
            "{name}: expected 0 to 1, found {value}"
        )))
    }
}

fn milliseconds(name: &str, value: f64) -> PyResult<f64> {
    if (0.0..=10_000.0).contains(&value) {
        Ok(value)
    } else {
        Err(PyValueError::new_err(format!(
            "{name}: expected 0 to 10000 ms, found {value}"
        )))
    }
}

#[pymethods]
impl PyRelay {
    #[new]
    #[pyo3(signature = (left, right, *, seed = 1))]
    fn new(left: &str, right: &str, seed: u64) -> PyResult<Self> {
        let relay =
            Relay::new(left, right, seed).map_err(|(error, step)| os_error(&error, &step))?;
        Ok(Self(Mutex::new(relay)))
    }

    #[pyo3(signature = (*, loss = 0.0, delay_ms = 0.0, jitter_ms = 0.0, reorder = 0.0, duplicate = 0.0,
                        blocked_protocols = Vec::new(), blocked_udp_ports = Vec::new(), blocked_too_big = false, mtu = 0))]
    // The arguments are those of the Python method, all by keyword.
    #[allow(clippy::too_many_arguments)]
    fn configure(
        &self,
        loss: f64,
        delay_ms: f64,
        jitter_ms: f64,
        reorder: f64,
        duplicate: f64,
        blocked_protocols: Vec<u16>,
        blocked_udp_ports: Vec<u16>,
        blocked_too_big: bool,
        mtu: usize,
    ) -> PyResult<()> {
        let blocked_protocols = blocked_protocols
            .into_iter()
            .map(|number| {
                u8::try_from(number).map_err(|_| {
                    PyValueError::new_err(format!(
                        "blocked_protocols: expected 0 to 255, found {number}"
                    ))
                })
            })
            .collect::<PyResult<Vec<u8>>>()?;
        let faults = Faults {
            loss: share("loss", loss)?,
            delay_ms: milliseconds("delay_ms", delay_ms)?,
            jitter_ms: milliseconds("jitter_ms", jitter_ms)?,
            reorder: share("reorder", reorder)?,
            duplicate: share("duplicate", duplicate)?,
            blocked_protocols,
            blocked_udp_ports,
            blocked_too_big,
            mtu,
        };
        self.with(|relay| relay.configure(faults))
            .map_err(|error| os_error(&error, "eventfd"))
    }

    fn counters(&self) -> HashMap<&'static str, u64> {
        self.with(|relay| relay.counters().read().into_iter().collect())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.with(Relay::close));
    }
}

/// Add the class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyRelay>()
}
