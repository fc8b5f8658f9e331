//! The primitives as Python sees them: opaque [`PySecret`] handles, bytes for all that is public.
//!
//! Rules: no key byte becomes a Python object but through the two `reveal_` methods; a lock on a secret is never held while
//! another is taken or while the GIL is waited for; calls under ten microseconds keep the GIL.

use std::sync::{Mutex, PoisonError};

use ginnel_crypto::{aead, blake2s as hashing, kdf, x25519 as curve, Secret};
use pyo3::create_exception;
use pyo3::exceptions::{PyImportError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

create_exception!(
    ginnel._native,
    ZeroSecret,
    PyValueError,
    "A Diffie-Hellman result was all zero: the other side sent a low-order point."
);
create_exception!(
    ginnel._native,
    AuthenticationFailed,
    PyValueError,
    "An AEAD tag did not verify; nothing was decrypted."
);

/// 32 bytes that live in the engine and are zeroed when dropped. repr, str, pickle and copy never show them.
#[pyclass(name = "Secret", module = "ginnel._native", frozen)]
pub struct PySecret(Mutex<Option<Secret>>);

impl From<Secret> for PySecret {
    fn from(secret: Secret) -> Self {
        Self(Mutex::new(Some(secret)))
    }
}

impl PySecret {
    /// Run `use_it` on the bytes; `ValueError` when they were taken.
    fn with<R>(&self, use_it: impl FnOnce(&Secret) -> R) -> PyResult<R> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(use_it).ok_or_else(taken)
    }

    /// Take the bytes out, for a session: no key ever seals twice. `ValueError` the second time.
    pub fn take(&self) -> PyResult<Secret> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(taken)
    }

    /// A copy for the engine, where the secret stays in use here (the interface's private key).
    pub fn duplicate(&self) -> PyResult<Secret> {
        self.with(Secret::duplicate)
    }
}

fn taken() -> PyErr {
    PyValueError::new_err("this secret was already given to a session; a key is used once")
}

fn random_failed(error: impl std::fmt::Display) -> PyErr {
    PyOSError::new_err(format!("getrandom: {error}"))
}

#[pymethods]
impl PySecret {
    #[staticmethod]
    fn random() -> PyResult<Self> {
        Secret::random().map(Self::from).map_err(random_failed)
    }

    #[staticmethod]
    fn zero() -> Self {
        Secret::zero().into()
    }

    #[staticmethod]
    fn from_bytes(raw: &[u8]) -> PyResult<Self> {
        Ok(Secret::from_slice(sized(raw, "a secret")?).into())
    }

    #[staticmethod]
    fn from_base64(text: &str) -> PyResult<Self> {
        match Secret::from_base64(text.as_bytes()) {
            Ok(secret) => Ok(secret.into()),
            Err(_) => Err(PyValueError::new_err(
                "expected a key of 44 base64 characters",
            )),
        }
    }

    #[staticmethod]
    fn from_hex(text: &str) -> PyResult<Self> {
        match Secret::from_hex(text.as_bytes()) {
            Ok(secret) => Ok(secret.into()),
            Err(_) => Err(PyValueError::new_err(
                "expected a key of 64 hexadecimal characters",
            )),
        }
    }

    /// A clamped copy (RFC 7748), as a private key is stored.
    fn clamp(&self) -> PyResult<Self> {
        self.with(|secret| secret.clamp().into())
    }

    fn is_zero(&self) -> PyResult<bool> {
        self.with(Secret::is_zero)
    }

    fn reveal_base64(&self) -> PyResult<String> {
        self.with(|secret| secret.base64().iter().map(|&c| c as char).collect())
    }

    fn reveal_hex(&self) -> PyResult<String> {
        self.with(|secret| secret.hex().iter().map(|&c| c as char).collect())
    }

    /// Constant time.
    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        // One lock at a time: both may be one object, and another thread may compare the other way round.
        let copy = other.get().duplicate()?;
        let equal = self.with(|secret| *secret == copy)?;
        Ok(equal.into_pyobject(py)?.to_owned().into_any())
    }

    // A plain `static` text: nothing of the content, not even whether it was taken.
    #[allow(clippy::unused_self)]
    fn __repr__(&self) -> &'static str {
        "Secret(..)"
    }

    /// Serves pickle and copy alike.
    #[allow(clippy::unused_self)]
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Secret can be neither pickled nor copied",
        ))
    }
}

/// Input keying material: public bytes, or a secret.
enum Material<'a> {
    Public(&'a [u8]),
    Secret(Secret),
}

impl Material<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Public(bytes) => bytes,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

fn material<'a>(data: &'a Bound<'_, PyAny>) -> PyResult<Material<'a>> {
    if let Ok(secret) = data.cast::<PySecret>() {
        // A copy, because the chaining key's lock is taken next and might be the same one.
        return Ok(Material::Secret(secret.get().duplicate()?));
    }
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(Material::Public(bytes.as_bytes())),
        Err(_) => Err(PyTypeError::new_err("expected bytes or a Secret")),
    }
}

fn sized<'a, const N: usize>(raw: &'a [u8], what: &str) -> PyResult<&'a [u8; N]> {
    raw.try_into().map_err(|_| {
        PyValueError::new_err(format!("expected {what} of {N} bytes, found {}", raw.len()))
    })
}

/// Run `consume` over the bytes of `parts`.
fn with_parts<R>(parts: &Bound<'_, PyTuple>, consume: impl FnOnce(&[&[u8]]) -> R) -> PyResult<R> {
    let mut slices = Vec::with_capacity(parts.len());
    for at in 0..parts.len() {
        let part: &[u8] = parts.get_borrowed_item(at)?.extract()?;
        slices.push(part);
    }
    Ok(consume(&slices))
}

fn bad_mac_key(_: hashing::BadKeyLength) -> PyErr {
    PyValueError::new_err("expected a MAC key of 1 to 32 bytes")
}

fn not_authentic(_: aead::AuthenticationFailed) -> PyErr {
    AuthenticationFailed::new_err("the message does not authenticate")
}

fn too_long(_: aead::TooLong) -> PyErr {
    PyValueError::new_err("the message is too long for one nonce")
}

#[pyfunction]
fn x25519_public<'py>(
    py: Python<'py>,
    private: &Bound<'py, PySecret>,
) -> PyResult<Bound<'py, PyBytes>> {
    let public = private.get().with(curve::public_key)?;
    Ok(PyBytes::new(py, &public))
}

/// Raises `ZeroSecret`.
#[pyfunction]
fn x25519(private: &Bound<'_, PySecret>, public: &[u8]) -> PyResult<PySecret> {
    let public = sized(public, "a public key")?;
    match private.get().with(|private| curve::dh(private, public))? {
        Ok(shared) => Ok(shared.into()),
        Err(zero) => Err(ZeroSecret::new_err(zero.to_string())),
    }
}

/// 32-byte BLAKE2s of the concatenation. A part may be a `Secret` (the handshake hashes tau, which is derived like a key); the digest is public.
#[pyfunction]
#[pyo3(signature = (*parts))]
fn blake2s<'py>(parts: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyBytes>> {
    let items: Vec<Bound<'py, PyAny>> = parts.iter().collect();
    let materials = items.iter().map(material).collect::<PyResult<Vec<_>>>()?;
    let slices: Vec<&[u8]> = materials.iter().map(Material::bytes).collect();
    Ok(PyBytes::new(parts.py(), &hashing::hash(&slices)))
}

/// 16-byte keyed BLAKE2s of the concatenation.
#[pyfunction]
#[pyo3(signature = (key, *parts))]
fn blake2s_mac<'py>(key: &[u8], parts: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyBytes>> {
    let tag = with_parts(parts, |parts| hashing::mac(key, parts))?.map_err(bad_mac_key)?;
    Ok(PyBytes::new(parts.py(), &tag))
}

/// Constant-time verification of `blake2s_mac`.
#[pyfunction]
fn blake2s_mac_equal(key: &[u8], data: &[u8], tag: &[u8]) -> PyResult<bool> {
    let Ok(tag) = tag.try_into() else {
        return Ok(false);
    };
    hashing::mac_equal(key, &[data], tag).map_err(bad_mac_key)
}

/// HKDF with HMAC-BLAKE2s, one output.
#[pyfunction]
fn kdf1(chain: &Bound<'_, PySecret>, data: &Bound<'_, PyAny>) -> PyResult<PySecret> {
    let data = material(data)?;
    chain
        .get()
        .with(|chain| kdf::kdf1(chain, data.bytes()).into())
}

#[pyfunction]
fn kdf2(chain: &Bound<'_, PySecret>, data: &Bound<'_, PyAny>) -> PyResult<(PySecret, PySecret)> {
    let data = material(data)?;
    let (one, two) = chain.get().with(|chain| kdf::kdf2(chain, data.bytes()))?;
    Ok((one.into(), two.into()))
}

#[pyfunction]
fn kdf3(
    chain: &Bound<'_, PySecret>,
    data: &Bound<'_, PyAny>,
) -> PyResult<(PySecret, PySecret, PySecret)> {
    let data = material(data)?;
    let (one, two, three) = chain.get().with(|chain| kdf::kdf3(chain, data.bytes()))?;
    Ok((one.into(), two.into(), three.into()))
}

/// ChaCha20-Poly1305 with the nonce `0^4 || LE64(counter)`.
#[pyfunction]
fn aead_seal<'py>(
    key: &Bound<'py, PySecret>,
    counter: u64,
    plaintext: &[u8],
    ad: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let sealed = key
        .get()
        .with(|secret| aead::seal(secret, counter, plaintext, ad))?
        .map_err(too_long)?;
    Ok(PyBytes::new(key.py(), &sealed))
}

/// Raises `AuthenticationFailed`.
#[pyfunction]
fn aead_open<'py>(
    key: &Bound<'py, PySecret>,
    counter: u64,
    ciphertext: &[u8],
    ad: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let opened = key
        .get()
        .with(|secret| aead::open(secret, counter, ciphertext, ad))?
        .map_err(not_authentic)?;
    Ok(PyBytes::new(key.py(), &opened))
}

/// XChaCha20-Poly1305, 24-byte nonce. The key is public by construction (cookie key).
#[pyfunction]
fn xaead_seal<'py>(
    py: Python<'py>,
    key: &[u8],
    nonce: &[u8],
    plaintext: &[u8],
    ad: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let (key, nonce) = (sized(key, "a key")?, sized(nonce, "a nonce")?);
    Ok(PyBytes::new(
        py,
        &aead::xseal(key, nonce, plaintext, ad).map_err(too_long)?,
    ))
}

/// Raises `AuthenticationFailed`.
#[pyfunction]
fn xaead_open<'py>(
    py: Python<'py>,
    key: &[u8],
    nonce: &[u8],
    ciphertext: &[u8],
    ad: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let (key, nonce) = (sized(key, "a key")?, sized(nonce, "a nonce")?);
    Ok(PyBytes::new(
        py,
        &aead::xopen(key, nonce, ciphertext, ad).map_err(not_authentic)?,
    ))
}

/// From the operating system; for nonces and jitter, never for keys (those are `Secret.random`).
#[pyfunction]
fn entropy(py: Python<'_>, size_bytes: usize) -> PyResult<Bound<'_, PyBytes>> {
    PyBytes::new_with(py, size_bytes, |out| {
        ginnel_crypto::entropy(out).map_err(random_failed)
    })
}

/// Add the names of this file to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    ginnel_crypto::check_aead_backend().map_err(PyImportError::new_err)?;
    m.add("UNENCRYPTED", ginnel_crypto::UNENCRYPTED)?;
    m.add_class::<PySecret>()?;
    m.add("ZeroSecret", py.get_type::<ZeroSecret>())?;
    m.add(
        "AuthenticationFailed",
        py.get_type::<AuthenticationFailed>(),
    )?;
    m.add_function(wrap_pyfunction!(x25519_public, m)?)?;
    m.add_function(wrap_pyfunction!(x25519, m)?)?;
    m.add_function(wrap_pyfunction!(blake2s, m)?)?;
    m.add_function(wrap_pyfunction!(blake2s_mac, m)?)?;
    m.add_function(wrap_pyfunction!(blake2s_mac_equal, m)?)?;
    m.add_function(wrap_pyfunction!(kdf1, m)?)?;
    m.add_function(wrap_pyfunction!(kdf2, m)?)?;
    m.add_function(wrap_pyfunction!(kdf3, m)?)?;
    m.add_function(wrap_pyfunction!(aead_seal, m)?)?;
    m.add_function(wrap_pyfunction!(aead_open, m)?)?;
    m.add_function(wrap_pyfunction!(xaead_seal, m)?)?;
    m.add_function(wrap_pyfunction!(xaead_open, m)?)?;
    m.add_function(wrap_pyfunction!(entropy, m)?)
}
