//! IKEv2's primitives as Python sees them: opaque [`PyKeyMaterial`] handles, bytes for all that is public.
//!
//! Rules: as in `crypto`; no key byte becomes a Python object but through `reveal`. Diffie-Hellman releases the GIL; what takes ten
//! microseconds keeps it.

use std::sync::{Mutex, PoisonError};

use ginnel_crypto::agreement::{Group, InvalidPublicValue as NotValid, KeyExchange, NoPrivateKey};
use ginnel_crypto::esp::Suite;
use ginnel_crypto::hash::Hash;
use ginnel_crypto::ike::{IkeCipher, NoCipher};
use ginnel_crypto::{prf as functions, KeyMaterial};
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::crypto::AuthenticationFailed;

create_exception!(
    ginnel._native,
    InvalidPublicValue,
    PyValueError,
    "The peer's Diffie-Hellman value has the wrong length, is out of range, not on the curve, or gives zero."
);

/// What Python may make of one piece; IKE's largest is a fraction of it.
const MAX_SIZE: usize = 1 << 16;

/// Secret bytes that live in the engine and are zeroed when dropped. repr, str, pickle and copy never show them.
#[pyclass(name = "KeyMaterial", module = "ginnel._native", frozen)]
pub struct PyKeyMaterial(Mutex<Option<KeyMaterial>>);

impl From<KeyMaterial> for PyKeyMaterial {
    fn from(material: KeyMaterial) -> Self {
        Self(Mutex::new(Some(material)))
    }
}

impl PyKeyMaterial {
    /// Run `use_it` on the material; `ValueError` when it was taken.
    fn with<R>(&self, use_it: impl FnOnce(&KeyMaterial) -> R) -> PyResult<R> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(use_it).ok_or_else(taken)
    }

    /// Take the bytes out, for an SA or a cipher: a key is used once. `ValueError` the second time.
    pub fn take(&self) -> PyResult<KeyMaterial> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(taken)
    }
}

fn taken() -> PyErr {
    PyValueError::new_err("this key material was already given away; a key is used once")
}

fn bounded(size: usize) -> PyResult<()> {
    if size > MAX_SIZE {
        return Err(PyValueError::new_err(format!(
            "expected at most {MAX_SIZE} bytes of key material, found {size}"
        )));
    }
    Ok(())
}

#[pymethods]
impl PyKeyMaterial {
    #[staticmethod]
    fn from_bytes(raw: &[u8]) -> PyResult<Self> {
        bounded(raw.len())?;
        Ok(KeyMaterial::from_slice(raw).into())
    }

    #[staticmethod]
    fn random(size_bytes: usize) -> PyResult<Self> {
        bounded(size_bytes)?;
        match KeyMaterial::random(size_bytes) {
            Ok(material) => Ok(material.into()),
            Err(error) => Err(PyOSError::new_err(format!("getrandom: {error}"))),
        }
    }

    fn __len__(&self) -> PyResult<usize> {
        self.with(KeyMaterial::len)
    }

    /// Empty material is material, too: not false.
    #[allow(clippy::unused_self)]
    fn __bool__(&self) -> bool {
        true
    }

    /// Constant time (lengths are public).
    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        // One lock at a time: both may be one object, and another thread may compare the other way round.
        let copy = other.get().with(KeyMaterial::duplicate)?;
        let equal = self.with(|material| *material == copy)?;
        Ok(equal.into_pyobject(py)?.to_owned().into_any())
    }

    /// Consecutive parts; `ValueError` unless the sizes add up to the length. Takes it.
    #[pyo3(signature = (*sizes_bytes))]
    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn split<'py>(
        &self,
        py: Python<'py>,
        sizes_bytes: Vec<usize>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let fits = self.with(|material| {
            let total = sizes_bytes
                .iter()
                .try_fold(0_usize, |sum, size| sum.checked_add(*size));
            (total == Some(material.len()), material.len())
        })?;
        if !fits.0 {
            return Err(PyValueError::new_err(format!(
                "expected sizes that add up to {}, found {sizes_bytes:?}",
                fits.1
            )));
        }
        // Another thread may have taken it in between; its bytes did not change.
        let parts = self.take()?.split(&sizes_bytes).unwrap_or_default();
        PyTuple::new(py, parts.into_iter().map(Self::from))
    }

    fn duplicate(&self) -> PyResult<Self> {
        self.with(|material| material.duplicate().into())
    }

    /// For the debug mode that writes keys for tshark, and for nothing else.
    fn reveal<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(|material| PyBytes::new(py, material.expose()))
    }

    // A plain `static` text: nothing of the content, not even whether it was taken.
    #[allow(clippy::unused_self)]
    fn __repr__(&self) -> &'static str {
        "KeyMaterial(..)"
    }

    /// Serves pickle and copy alike.
    #[allow(clippy::unused_self)]
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "KeyMaterial can be neither pickled nor copied",
        ))
    }
}

/// Public bytes, or a copy of secret ones.
enum Part<'a> {
    Public(&'a [u8]),
    Secret(KeyMaterial),
}

impl Part<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Public(bytes) => bytes,
            Self::Secret(material) => material.expose(),
        }
    }
}

fn part<'a>(data: &'a Bound<'_, PyAny>) -> PyResult<Part<'a>> {
    if let Ok(material) = data.cast::<PyKeyMaterial>() {
        // A copy, because one handle may stand in several places.
        return Ok(Part::Secret(material.get().with(KeyMaterial::duplicate)?));
    }
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(Part::Public(bytes.as_bytes())),
        Err(_) => Err(PyTypeError::new_err("expected bytes or KeyMaterial")),
    }
}

/// Run `consume` over the bytes of `parts`.
fn with_parts<R>(parts: &Bound<'_, PyTuple>, consume: impl FnOnce(&[&[u8]]) -> R) -> PyResult<R> {
    let items: Vec<Bound<'_, PyAny>> = parts.iter().collect();
    let parts = items.iter().map(part).collect::<PyResult<Vec<_>>>()?;
    let slices: Vec<&[u8]> = parts.iter().map(Part::bytes).collect();
    Ok(consume(&slices))
}

fn named(hash: &str) -> PyResult<Hash> {
    Hash::parse(hash).ok_or_else(|| {
        PyValueError::new_err(format!(
            "expected sha1, sha256, sha384 or sha512, found {hash:?}"
        ))
    })
}

/// HMAC of the concatenation, as a secret.
#[pyfunction]
#[pyo3(signature = (hash, key, *parts))]
fn prf(hash: &str, key: &Bound<'_, PyAny>, parts: &Bound<'_, PyTuple>) -> PyResult<PyKeyMaterial> {
    let (hash, key) = (named(hash)?, part(key)?);
    with_parts(parts, |parts| {
        functions::prf(hash, key.bytes(), parts).into()
    })
}

/// HMAC of the concatenation, for what is sent or signed.
#[pyfunction]
#[pyo3(signature = (hash, key, *parts))]
fn prf_public<'py>(
    hash: &str,
    key: &Bound<'py, PyAny>,
    parts: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (hash, key) = (named(hash)?, part(key)?);
    let tag = with_parts(parts, |parts| {
        functions::prf_public(hash, key.bytes(), parts)
    })?;
    Ok(PyBytes::new(parts.py(), &tag))
}

/// prf+ of RFC 7296, 2.13; `ValueError` beyond 255 blocks.
#[pyfunction]
fn prf_plus(
    hash: &str,
    key: &Bound<'_, PyKeyMaterial>,
    seed: &Bound<'_, PyAny>,
    size_bytes: usize,
) -> PyResult<PyKeyMaterial> {
    let (hash, seed) = (named(hash)?, part(seed)?);
    let material = key
        .get()
        .with(|key| functions::prf_plus(hash, key.expose(), seed.bytes(), size_bytes))?;
    material.map(PyKeyMaterial::from).ok_or_else(|| {
        PyValueError::new_err(format!(
            "prf+ gives at most {} bytes with {}, asked for {size_bytes}",
            255 * hash.size(),
            hash.name()
        ))
    })
}

/// The concatenation, as a secret.
#[pyfunction]
#[pyo3(signature = (*parts))]
fn concat(parts: &Bound<'_, PyTuple>) -> PyResult<PyKeyMaterial> {
    with_parts(parts, |parts| {
        bounded(parts.iter().map(|part| part.len()).sum())?;
        Ok(KeyMaterial::concat(parts).into())
    })?
}

/// Constant time.
#[pyfunction]
fn bytes_equal(left: &[u8], right: &[u8]) -> bool {
    ginnel_crypto::hash::bytes_equal(left, right)
}

/// A hash of what is public.
#[pyfunction]
#[pyo3(signature = (hash, *parts))]
fn digest<'py>(hash: &str, parts: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyBytes>> {
    let hash = named(hash)?;
    let mut slices = Vec::with_capacity(parts.len());
    for at in 0..parts.len() {
        let part: &[u8] = parts.get_borrowed_item(at)?.extract()?;
        slices.push(part);
    }
    Ok(PyBytes::new(parts.py(), &hash.digest(&slices)))
}

/// One side of a Diffie-Hellman exchange, used once.
#[pyclass(name = "KeyExchange", module = "ginnel._native", frozen)]
struct PyKeyExchange {
    number: u16,
    public: Vec<u8>,
    exchange: Mutex<Option<KeyExchange>>,
}

fn no_private_key(_: NoPrivateKey) -> PyErr {
    PyOSError::new_err("no private key could be made: the system gave no entropy or no memory")
}

fn not_valid(error: NotValid) -> PyErr {
    InvalidPublicValue::new_err(error.to_string())
}

#[pymethods]
impl PyKeyExchange {
    #[new]
    fn new(py: Python<'_>, group: u16) -> PyResult<Self> {
        let Some(named) = Group::from_number(group) else {
            return Err(PyValueError::new_err(format!(
                "expected one of the groups {:?}, found {group}",
                Group::NUMBERS
            )));
        };
        let exchange = py
            .detach(|| KeyExchange::new(named))
            .map_err(no_private_key)?;
        Ok(Self {
            number: group,
            public: exchange.public().to_vec(),
            exchange: Mutex::new(Some(exchange)),
        })
    }

    #[getter]
    fn group(&self) -> u16 {
        self.number
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.public)
    }

    /// g^ir as SKEYSEED takes it. A second use is a `ValueError`, whatever came of the first.
    fn agree(&self, py: Python<'_>, peer: &[u8]) -> PyResult<PyKeyMaterial> {
        let held = self
            .exchange
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let exchange = held.ok_or_else(|| {
            PyValueError::new_err("this key exchange was used already; a private value serves once")
        })?;
        py.detach(|| exchange.agree(peer))
            .map(PyKeyMaterial::from)
            .map_err(not_valid)
    }

    #[allow(clippy::unused_self)]
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a KeyExchange can be neither pickled nor copied",
        ))
    }
}

/// Encryption of IKE messages, one direction of one IKE SA.
#[pyclass(name = "IkeCipher", module = "ginnel._native", frozen)]
struct PyIkeCipher(IkeCipher);

/// A suite by its name; shared with the engine's SAs.
pub fn suite(name: &str) -> PyResult<Suite> {
    Suite::parse(name).ok_or_else(|| {
        let known: Vec<_> = Suite::all().map(Suite::name).collect();
        PyValueError::new_err(format!(
            "expected one of {}, found {name:?}",
            known.join(", ")
        ))
    })
}

#[pymethods]
impl PyIkeCipher {
    #[new]
    fn new(
        suite: &str,
        key: &Bound<'_, PyKeyMaterial>,
        integrity: &Bound<'_, PyKeyMaterial>,
    ) -> PyResult<Self> {
        let suite = self::suite(suite)?;
        let (key, integrity) = (key.get().take()?, integrity.get().take()?);
        match IkeCipher::new(suite, &key, &integrity) {
            Ok(cipher) => Ok(Self(cipher)),
            Err(NoCipher::WrongKeySize(error)) => Err(PyValueError::new_err(error.to_string())),
            Err(NoCipher::Entropy(error)) => Err(PyOSError::new_err(format!("getrandom: {error}"))),
        }
    }

    /// Bytes of `seal`'s result.
    fn sealed_size(&self, plaintext_size: usize) -> PyResult<usize> {
        bounded(plaintext_size)?;
        Ok(self.0.sealed_size(plaintext_size))
    }

    /// IV, ciphertext, checksum.
    fn seal<'py>(
        &self,
        py: Python<'py>,
        associated: &[u8],
        plaintext: &[u8],
    ) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.seal(associated, plaintext))
    }

    /// The plaintext without padding; raises `AuthenticationFailed`.
    fn open<'py>(
        &self,
        py: Python<'py>,
        associated: &[u8],
        sealed: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        match self.0.open(associated, sealed) {
            Ok(plaintext) => Ok(PyBytes::new(py, &plaintext)),
            Err(error) => Err(AuthenticationFailed::new_err(error.to_string())),
        }
    }

    #[allow(clippy::unused_self)]
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "an IkeCipher can be neither pickled nor copied",
        ))
    }
}

/// Add the names of this file to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyKeyMaterial>()?;
    m.add_class::<PyKeyExchange>()?;
    m.add_class::<PyIkeCipher>()?;
    m.add(
        "InvalidPublicValue",
        m.py().get_type::<InvalidPublicValue>(),
    )?;
    m.add_function(wrap_pyfunction!(prf, m)?)?;
    m.add_function(wrap_pyfunction!(prf_public, m)?)?;
    m.add_function(wrap_pyfunction!(prf_plus, m)?)?;
    m.add_function(wrap_pyfunction!(concat, m)?)?;
    m.add_function(wrap_pyfunction!(bytes_equal, m)?)?;
    m.add_function(wrap_pyfunction!(digest, m)?)
}
