//! `ginnel._native`: what Python sees of the primitives and of the engine.
//!
//! Rules: translate arguments, release the GIL where a call may wait, map errors; no logic of its own.
//! The contract is `src/ginnel/_native.pyi`.

use pyo3::prelude::*;

mod crypto;
mod engine;
mod ike;
mod plain;
mod protect;
mod relay;

#[pymodule(gil_used = false)]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    crypto::register(m)?;
    ike::register(m)?;
    engine::register(m)?;
    plain::register(m)?;
    protect::register(m)?;
    relay::register(m)
}
