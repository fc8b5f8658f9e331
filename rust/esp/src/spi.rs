//! The table by which an arriving packet finds its owner: SPIs of ours, in use or promised.
//!
//! Rules. An SPI is drawn at random from 256 up (0 is nobody's, 1 to 255 are IANA's: RFC 4303 2.1) and names one owner in the whole
//! process. It is *reserved* while a negotiation that offers it is under way, and lapses [`RESERVED_NS`] later unless it became an SA's.
//! Lookups are for keys of anybody's choice, but what lies in the table is ours and random: no set of SPIs makes it slow,
//! so the hash is one multiplication.
//!
//! Bounds: [`MAX_RESERVED`] reservations. SAs are bounded by whoever adds them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The first SPI that may be allocated.
pub const FIRST: u32 = 256;
/// How long a promise holds: longer than any negotiation (retransmissions end after some three minutes).
pub const RESERVED_NS: u64 = 600 * 1_000_000_000;
/// Negotiations under way at once, and those that died within the last ten minutes.
pub const MAX_RESERVED: usize = 65_536;
/// Draws before giving up; with 2^17 SPIs taken out of 2^32 the chance that all fail is below 2^-200.
const DRAWS: usize = 16;

/// What an SPI stands for.
#[derive(Debug)]
enum Slot<T> {
    Reserved { until_ns: u64 },
    Used(T),
}

/// SPI → owner.
#[derive(Debug)]
pub struct Spis<T> {
    slots: HashMap<u32, Slot<T>, BuildHasherDefault<Multiply>>,
    reserved: usize,
}

/// Why there is no SPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpiError {
    /// [`MAX_RESERVED`] are promised already.
    TooMany,
    /// The source of chance gave nothing that is free.
    NoneFree,
    /// Below [`FIRST`].
    NotOurs,
    /// Another's.
    Taken,
}

impl<T> Default for Spis<T> {
    fn default() -> Self {
        Self {
            slots: HashMap::default(),
            reserved: 0,
        }
    }
}

impl<T> Spis<T> {
    /// A random SPI that nobody has, promised until `now_ns` + [`RESERVED_NS`]. *draw*: 32 random bits.
    pub fn reserve(&mut self, now_ns: u64, mut draw: impl FnMut() -> u32) -> Result<u32, SpiError> {
        if self.reserved >= MAX_RESERVED {
            self.lapse(now_ns);
        }
        if self.reserved >= MAX_RESERVED {
            return Err(SpiError::TooMany);
        }
        for _ in 0..DRAWS {
            let spi = draw();
            if spi >= FIRST && !self.is_held(spi, now_ns) {
                let until_ns = now_ns.saturating_add(RESERVED_NS);
                // A reservation that has lapsed is replaced by the new one.
                if self
                    .slots
                    .insert(spi, Slot::Reserved { until_ns })
                    .is_none()
                {
                    self.reserved += 1;
                }
                return Ok(spi);
            }
        }
        Err(SpiError::NoneFree)
    }

    /// Takes a promise back; an SA's SPI stays.
    pub fn release(&mut self, spi: u32) {
        if let Some(Slot::Reserved { .. }) = self.slots.get(&spi) {
            self.slots.remove(&spi);
            self.reserved -= 1;
        }
    }

    /// From now on `spi` is this owner's, promised before or not (SAs of other origin than a negotiation choose their own).
    pub fn insert(&mut self, spi: u32, owner: T) -> Result<(), SpiError> {
        if spi < FIRST {
            return Err(SpiError::NotOurs);
        }
        match self.slots.get(&spi) {
            Some(Slot::Used(_)) => return Err(SpiError::Taken),
            Some(Slot::Reserved { .. }) => self.reserved -= 1,
            None => {}
        }
        self.slots.insert(spi, Slot::Used(owner));
        Ok(())
    }

    /// The owner is gone; a promise stays.
    pub fn remove(&mut self, spi: u32) -> Option<T> {
        match self.slots.remove(&spi)? {
            Slot::Used(owner) => Some(owner),
            slot @ Slot::Reserved { .. } => {
                self.slots.insert(spi, slot);
                None
            }
        }
    }

    /// Whose packet this is.
    #[inline]
    pub fn find(&self, spi: u32) -> Option<&T> {
        match self.slots.get(&spi)? {
            Slot::Used(owner) => Some(owner),
            Slot::Reserved { .. } => None,
        }
    }

    /// Whether a promise for this SPI holds: packets may come a moment before their SA does.
    pub fn is_reserved(&self, spi: u32, now_ns: u64) -> bool {
        matches!(self.slots.get(&spi), Some(Slot::Reserved { until_ns }) if *until_ns > now_ns)
    }

    fn is_held(&self, spi: u32, now_ns: u64) -> bool {
        self.find(spi).is_some() || self.is_reserved(spi, now_ns)
    }

    /// Forgets promises that nobody came back for.
    fn lapse(&mut self, now_ns: u64) {
        self.slots
            .retain(|_, slot| !matches!(slot, Slot::Reserved { until_ns } if *until_ns <= now_ns));
        self.reserved = self
            .slots
            .values()
            .filter(|slot| matches!(slot, Slot::Reserved { .. }))
            .count();
    }
}

/// Random keys need no more than to be spread over the word.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = (self.0.rotate_left(32) ^ u64::from(key)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// One draw after the other.
    fn draws(values: &[u32]) -> impl FnMut() -> u32 + '_ {
        let mut values = values.iter();
        move || *values.next().unwrap_or(&0)
    }

    #[test]
    fn what_is_iana_s_or_taken_is_never_given_out() {
        let mut spis = Spis::default();
        spis.insert(300, "sa").unwrap();
        assert_eq!(spis.reserve(0, draws(&[0, 1, 255, 300, 256])), Ok(256));
        assert_eq!(spis.reserve(0, draws(&[256, 300, 7, 257])), Ok(257));
        assert_eq!(spis.reserve(0, || 255), Err(SpiError::NoneFree));
        for spi in [0, 1, 255] {
            assert_eq!(spis.insert(spi, "sa"), Err(SpiError::NotOurs));
        }
    }

    #[test]
    fn a_promise_becomes_an_sa_or_is_taken_back_or_lapses() {
        let mut spis = Spis::default();
        for spi in [1000, 1001, 1002] {
            assert_eq!(spis.reserve(0, || spi), Ok(spi));
            assert_eq!(spis.find(spi), None, "a promise is nobody's packet");
        }
        spis.insert(1000, 'a').unwrap();
        assert_eq!(spis.find(1000), Some(&'a'));
        spis.release(1001);
        assert_eq!(spis.reserve(1, || 1001), Ok(1001));
        assert_eq!(
            spis.reserve(RESERVED_NS - 1, || 1002),
            Err(SpiError::NoneFree)
        );
        assert!(spis.is_reserved(1002, RESERVED_NS - 1));
        assert!(!spis.is_reserved(1002, RESERVED_NS));
        assert_eq!(spis.reserve(RESERVED_NS, || 1002), Ok(1002));
        assert_eq!(spis.reserved, 2);
    }

    #[test]
    fn an_sa_s_spi_is_one_owner_s_and_is_not_released() {
        let mut spis = Spis::default();
        spis.insert(500, 1).unwrap();
        assert_eq!(spis.insert(500, 2), Err(SpiError::Taken));
        spis.release(500);
        assert_eq!(spis.find(500), Some(&1));
        assert_eq!(spis.remove(500), Some(1));
        assert_eq!(spis.remove(500), None);
        assert_eq!(spis.find(500), None);
        assert_eq!(spis.reserve(0, || 500), Ok(500));
        assert_eq!(spis.remove(500), None, "a promise is not an SA");
        assert!(spis.is_reserved(500, 0));
    }

    #[test]
    fn promises_are_bounded_and_those_that_lapsed_make_room() {
        let mut spis: Spis<()> = Spis::default();
        let mut next = FIRST;
        let mut draw = || {
            next += 1;
            next
        };
        for _ in 0..MAX_RESERVED {
            spis.reserve(5 * SECOND, &mut draw).unwrap();
        }
        assert_eq!(spis.reserve(6 * SECOND, &mut draw), Err(SpiError::TooMany));
        assert!(spis.reserve(5 * SECOND + RESERVED_NS, &mut draw).is_ok());
        assert_eq!(spis.reserved, 1);
        assert_eq!(spis.slots.len(), 1);
    }
}
