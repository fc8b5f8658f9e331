//! The SA by which packets leave: sequence numbers, header, trailer, one batch sealed at once.
//!
//! Rules (RFC 4303 3.3). Numbers begin at 1, rise by one and never wrap: 2^32 - 1 is the last, with ESN 2^64 - 2. Taking a number
//! and sealing with it are one step under one lock, whoever calls: a number sealed twice would give the texts away (`ginnel_crypto::esp`).
//! What finds no number left, or a hard limit met, is not sealed and must be dropped; seven eighths of the numbers are a soft limit
//! of their own.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use ginnel_crypto::esp::{EspCipher, EspJob, Suite};
use ginnel_crypto::KeyMaterial;

use crate::layout;
use crate::sa::{Account, Counters, Expiring, Mode, SaError, Scratch, Terms};
use crate::selectors::Selectors;

/// One packet in the slab, with room for headers before and behind: [`layout::headroom`] bytes before the payload, and as many behind it
/// as [`layout::sealed_len`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where the ESP header will begin.
    pub start: usize,
    /// Bytes of payload, which begin behind the headroom.
    pub payload: usize,
    /// What the payload is: 47 GRE, 4 IPv4, 41 IPv6.
    pub next_header: u8,
}

/// What became of a batch.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// So many from the front were sealed; the others must not be sent.
    pub count: usize,
    pub expiring: Option<Expiring>,
}

/// One outbound SA.
pub struct Outbound {
    terms: Terms,
    cipher: EspCipher,
    /// The last number there is.
    last: u64,
    /// From this one on it is time to rekey.
    soft: u64,
    sending: Mutex<Sending>,
}

#[derive(Debug)]
struct Sending {
    /// The last number used.
    sent: u64,
    account: Account,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Outbound {
    /// An SA whose numbers up to *sent* are used up (0 for a new one).
    pub fn new(
        terms: Terms,
        key: &KeyMaterial,
        integrity: &KeyMaterial,
        sent: u64,
    ) -> Result<Self, SaError> {
        let last = if terms.esn {
            u64::MAX - 1
        } else {
            u64::from(u32::MAX)
        };
        if sent >= last {
            return Err(SaError::Number);
        }
        Ok(Self {
            cipher: EspCipher::new(terms.suite, terms.esn, key, integrity)?,
            terms,
            last,
            soft: last / 8 * 7,
            sending: Mutex::new(Sending {
                sent,
                account: Account::default(),
            }),
        })
    }

    pub fn spi(&self) -> u32 {
        self.terms.spi
    }

    pub fn suite(&self) -> Suite {
        self.terms.suite
    }

    pub fn mode(&self) -> Mode {
        self.terms.mode
    }

    /// What may leave by it; the caller asks before it places a packet.
    pub fn selectors(&self) -> &Selectors {
        &self.terms.selectors
    }

    pub fn counters(&self) -> Counters {
        let sending = self.lock();
        Counters {
            packets: sending.account.packets,
            bytes: sending.account.bytes,
            sequence: sending.sent,
            last_ns: sending.account.last_ns,
        }
    }

    /// Numbers, headers and trailers for the first packets of the batch, as many as may leave; sealed in place, in order.
    ///
    /// # Panics
    /// When a packet does not lie within the slab: a mistake of the caller.
    pub fn seal(
        &self,
        slab: &mut [u8],
        placed: &[Placed],
        now_ns: u64,
        scratch: &mut Scratch,
    ) -> Sealed {
        let (suite, limits) = (self.terms.suite, &self.terms.limits);
        let headroom = layout::headroom(suite);
        let mut sending = self.lock();
        let Sending { sent, account } = &mut *sending;
        scratch.jobs.clear();
        if !account.has_ended(limits, now_ns) {
            for packet in placed {
                if *sent >= self.last || !account.charge(limits, packet.payload) {
                    break;
                }
                *sent += 1;
                let text = layout::text_len(suite, packet.payload);
                let bytes = &mut slab[packet.start..packet.start + headroom + text];
                layout::write_header(bytes, self.terms.spi, *sent);
                layout::write_trailer(&mut bytes[headroom..], packet.payload, packet.next_header);
                scratch.jobs.push(EspJob {
                    sequence: *sent,
                    start: packet.start,
                    len: text,
                });
            }
        }
        if !scratch.jobs.is_empty() {
            account.last_ns = now_ns;
            self.cipher.seal_many(slab, &scratch.jobs);
        }
        account.ended |= *sent >= self.last;
        Sealed {
            count: scratch.jobs.len(),
            expiring: account.expiring(limits, *sent >= self.soft),
        }
    }

    /// A panic of another thread leaves numbers that are used up, never ones that are not.
    fn lock(&self) -> std::sync::MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
