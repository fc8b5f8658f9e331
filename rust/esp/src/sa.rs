//! What the SAs of both directions have in common: the terms they were negotiated on, when they end, and the room they work in.

use std::fmt;

use ginnel_crypto::esp::{EspJob, Suite, WrongKeySize};

use crate::selectors::Selectors;

/// What lies behind the ESP header (RFC 4301 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The payload of the packet whose delivery header stands in front.
    Transport,
    /// A whole IP packet.
    Tunnel,
}

/// When an SA ends; 0 = never. Soft: the control plane is told, once. Hard: nothing passes any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of payload.
    pub soft_bytes: u64,
    pub hard_bytes: u64,
    pub soft_packets: u64,
    pub hard_packets: u64,
    /// A time of the caller's clock.
    pub hard_ns: u64,
}

/// What is told of an SA's end, each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// Time to rekey.
    Soft,
    /// It carries no more.
    Hard,
}

/// The terms of one SA.
#[derive(Clone, Debug)]
pub struct Terms {
    pub spi: u32,
    pub suite: Suite,
    pub mode: Mode,
    /// Extended sequence numbers: 64 bits, of which 32 are sent.
    pub esn: bool,
    pub limits: Limits,
    /// As the packets show it in this SA's direction.
    pub selectors: Selectors,
}

/// Why there can be no such SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaError {
    Key(WrongKeySize),
    /// Too large, or none with ESN.
    Window,
    /// Where its numbers are to begin is beyond the last of them.
    Number,
}

impl fmt::Display for SaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(wrong) => wrong.fmt(f),
            Self::Window => write!(
                f,
                "a replay window has 0 (without ESN) to {} numbers",
                crate::replay::MAX_WINDOW
            ),
            Self::Number => f.write_str("the sequence numbers are used up from the start"),
        }
    }
}

impl std::error::Error for SaError {}

impl From<WrongKeySize> for SaError {
    fn from(wrong: WrongKeySize) -> Self {
        Self::Key(wrong)
    }
}

/// One SA's account, for `show`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// That were sealed, or proved genuine and new.
    pub packets: u64,
    /// Of their payload.
    pub bytes: u64,
    /// The last number sent, or the greatest received.
    pub sequence: u64,
    /// When the last of them was; 0 = never.
    pub last_ns: u64,
}

/// What has passed under an SA, held against its limits.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) last_ns: u64,
    soft_told: bool,
    hard_told: bool,
    /// A hard limit was met: for good.
    pub(crate) ended: bool,
}

impl Account {
    /// Whether a payload of this many bytes is still within the hard limits; counts it then, else the SA has ended.
    #[inline]
    pub(crate) fn charge(&mut self, limits: &Limits, bytes: usize) -> bool {
        let after = self.bytes.saturating_add(bytes as u64);
        let packets = limits.hard_packets != 0 && self.packets >= limits.hard_packets;
        let volume = limits.hard_bytes != 0 && after > limits.hard_bytes;
        self.ended |= packets || volume;
        if !self.ended {
            self.packets += 1;
            self.bytes = after;
        }
        !self.ended
    }

    /// Whether nothing passes any more at this time.
    #[inline]
    pub(crate) fn has_ended(&mut self, limits: &Limits, now_ns: u64) -> bool {
        self.ended |= limits.hard_ns != 0 && now_ns >= limits.hard_ns;
        self.ended
    }

    /// What is to be told now. *near*: another reason to rekey, of the caller's.
    pub(crate) fn expiring(&mut self, limits: &Limits, near: bool) -> Option<Expiring> {
        let over = |count: u64, limit: u64| limit != 0 && count >= limit;
        let full = over(self.bytes, limits.hard_bytes) || over(self.packets, limits.hard_packets);
        self.ended |= full;
        let soft =
            near || over(self.bytes, limits.soft_bytes) || over(self.packets, limits.soft_packets);
        if self.ended && !self.hard_told {
            (self.soft_told, self.hard_told) = (true, true);
            Some(Expiring::Hard)
        } else if soft && !self.soft_told {
            self.soft_told = true;
            Some(Expiring::Soft)
        } else {
            None
        }
    }
}

/// Room that is used again from batch to batch; one for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) jobs: Vec<EspJob>,
    pub(crate) genuine: Vec<bool>,
    /// For each job, which of the batch's packets it is.
    pub(crate) of: Vec<usize>,
    /// One packet as it arrived.
    pub(crate) kept: Vec<u8>,
}
