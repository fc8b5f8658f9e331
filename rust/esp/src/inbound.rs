//! The SA by which packets come in: window, one batch opened at once, window again, trailer, and what may be inside.
//!
//! Rules (RFC 4303 3.4). A packet's number is looked at before it is opened, which is cheap, and marked after it proved genuine, which a
//! forger can not. A run of packets of one SA is one batch under one lock. Each refused packet has one reason, counted here; none
//! changes anything else.
//!
//! **Resynchronisation** (RFC 4303 A3). With ESN, a sender that was not heard for 2^32 packets shows low halves that we take for an earlier
//! high half, and nothing proves genuine for ever. So after [`RESYNC_AFTER`] packets in a row that proved false, one packet in
//! [`RESYNC_EVERY_NS`] is tried with the next [`RESYNC_TRIES`] high halves. A forger who floods buys with it that many openings in that time.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ginnel_crypto::esp::{EspCipher, EspJob, Suite};
use ginnel_crypto::KeyMaterial;
use ginnel_packet::ecn::{self, EcnVerdict};
use ginnel_packet::ip::{self, Ip};

use crate::layout;
use crate::replay::{Verdict, Window};
use crate::sa::{Account, Counters, Expiring, Mode, SaError, Scratch, Terms};

/// Packets in a row that prove false before another high half is thought of. Far more than a burst of damage, far less than a second.
pub const RESYNC_AFTER: u32 = 128;
/// And one try in this time.
pub const RESYNC_EVERY_NS: u64 = 100_000_000;
/// High halves of one try: 2^34 packets, some hours at full speed, within which liveness ends the SA anyway.
pub const RESYNC_TRIES: u64 = 4;

/// IPv4 and IPv6 in tunnel mode.
const NEXT_IPV4: u8 = 4;
const NEXT_IPV6: u8 = 41;

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Seen already.
    Replayed,
    /// Before the window.
    TooOld,
    /// Not genuine: damaged, forged, or other keys.
    BadIcv,
    /// Too short, no whole blocks, padding that is not 1, 2, 3 …, or no IP packet where one must be.
    Malformed,
    /// An SA of tunnel mode that brings no IP packet.
    WrongMode,
    /// Nothing that the SA was negotiated for.
    Selectors,
    /// Beyond a hard limit.
    Expired,
    /// Congestion on the way of a packet whose sender can not hear of it (RFC 6040).
    Ecn,
    /// Sent to hide that nothing was sent; no fault.
    Dummy,
}

impl Refusal {
    pub const ALL: [Self; 9] = [
        Self::Replayed,
        Self::TooOld,
        Self::BadIcv,
        Self::Malformed,
        Self::WrongMode,
        Self::Selectors,
        Self::Expired,
        Self::Ecn,
        Self::Dummy,
    ];

    /// As an SA's own counters have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::TooOld => "too_old",
            Self::BadIcv => "bad_icv",
            Self::Malformed => "malformed",
            Self::WrongMode => "wrong_mode",
            Self::Selectors => "selectors",
            Self::Expired => "expired",
            Self::Ecn => "ecn",
            Self::Dummy => "dummy",
        }
    }
}

/// Dropped packets of one SA, in the order of [`Refusal::ALL`].
pub type Drops = [u64; Refusal::ALL.len()];

/// One ESP packet in the slab, from its header to its ICV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub start: usize,
    pub len: usize,
}

/// A genuine packet, in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where the payload begins in the slab.
    pub start: usize,
    /// Its length; in tunnel mode there may be padding behind the packet's own end.
    pub len: usize,
    pub next_header: u8,
    pub number: u64,
}

/// The delivery header as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// ESP came in UDP: a NAT may have changed the addresses, and may change them again.
    pub in_udp: bool,
}

/// What a batch changed.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The first genuine packet of the SA's life was in it.
    pub first: bool,
    pub expiring: Option<Expiring>,
}

/// One inbound SA.
pub struct Inbound {
    terms: Terms,
    cipher: EspCipher,
    receiving: Mutex<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    window: Window,
    account: Account,
    drops: Drops,
    /// Packets in a row that proved false.
    false_in_a_row: u32,
    /// The next try at another high half.
    resync_ns: u64,
}

impl Receiving {
    fn refuse(&mut self, reason: Refusal) -> Result<Opened, Refusal> {
        self.drops[reason as usize] += 1;
        Err(reason)
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Inbound {
    /// An SA with a replay window of this many numbers that has received everything up to *received* (0 for a new one).
    pub fn new(
        terms: Terms,
        key: &KeyMaterial,
        integrity: &KeyMaterial,
        window: u32,
        received: u64,
    ) -> Result<Self, SaError> {
        Ok(Self {
            cipher: EspCipher::new(terms.suite, terms.esn, key, integrity)?,
            receiving: Mutex::new(Receiving {
                window: Window::new(window, terms.esn, received).ok_or(SaError::Window)?,
                account: Account::default(),
                drops: Drops::default(),
                false_in_a_row: 0,
                resync_ns: 0,
            }),
            terms,
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

    pub fn counters(&self) -> (Counters, Drops) {
        let receiving = self.lock();
        let counters = Counters {
            packets: receiving.account.packets,
            bytes: receiving.account.bytes,
            sequence: receiving.window.highest(),
            last_ns: receiving.account.last_ns,
        };
        (counters, receiving.drops)
    }

    /// Opens a run of packets in place: `results[i]` says what became of `arrived[i]`. The bytes of a refused packet are unspecified.
    ///
    /// # Panics
    /// When a packet does not lie within the slab: a mistake of the caller.
    pub fn open(
        &self,
        slab: &mut [u8],
        arrived: &[Arrived],
        now_ns: u64,
        scratch: &mut Scratch,
        results: &mut Vec<Result<Opened, Refusal>>,
    ) -> Run {
        results.clear();
        let mut receiving = self.lock();
        let before = receiving.account.packets;
        if receiving.account.has_ended(&self.terms.limits, now_ns) {
            results.extend(arrived.iter().map(|_| receiving.refuse(Refusal::Expired)));
        } else {
            self.check(&mut receiving, slab, arrived, scratch, results);
            let resync = self.keep_for_resync(&receiving, slab, now_ns, scratch);
            scratch.genuine.clear();
            scratch.genuine.resize(scratch.jobs.len(), false);
            self.cipher
                .open_many(slab, &scratch.jobs, &mut scratch.genuine);
            if resync && !scratch.genuine[0] {
                self.resync(&mut receiving, slab, now_ns, scratch);
            }
            for at in 0..scratch.jobs.len() {
                let (job, genuine) = (scratch.jobs[at], scratch.genuine[at]);
                results[scratch.of[at]] = self.accept(&mut receiving, slab, &job, genuine);
            }
        }
        let account = &mut receiving.account;
        let first = before == 0 && account.packets > 0;
        if account.packets > before {
            account.last_ns = now_ns;
        }
        Run {
            first,
            expiring: account.expiring(&self.terms.limits, false),
        }
    }

    /// What an opened packet may bring in. *payload*: its bytes, `slab[start..start + len]`.
    ///
    /// Returns how many of them it is: in tunnel mode what lies behind the inner packet's end is cut off, and the congestion that the outer
    /// header tells of is carried in. In transport mode the encapsulation inside does that.
    pub fn admit(
        &self,
        opened: &Opened,
        outer: &Outer,
        payload: &mut [u8],
    ) -> Result<usize, Refusal> {
        let admitted = match self.terms.mode {
            Mode::Transport => {
                let ends = (!outer.in_udp).then_some((outer.source, outer.destination));
                let selectors = &self.terms.selectors;
                selectors
                    .admit_payload(ends, opened.next_header, payload)
                    .then_some(payload.len())
                    .ok_or(Refusal::Selectors)
            }
            Mode::Tunnel => self.admit_packet(opened.next_header, outer.tos, payload),
        };
        if let Err(reason) = admitted {
            self.lock().drops[reason as usize] += 1;
        }
        admitted
    }

    fn admit_packet(&self, next_header: u8, tos: u8, payload: &mut [u8]) -> Result<usize, Refusal> {
        let expected = match next_header {
            NEXT_IPV4 => Ip::V4,
            NEXT_IPV6 => Ip::V6,
            _ => return Err(Refusal::WrongMode),
        };
        if ip::version(payload) != Some(expected) {
            return Err(Refusal::Malformed);
        }
        let len = ip::total_len(payload).map_err(|_| Refusal::Malformed)?;
        let packet = &mut payload[..len];
        if !self.terms.selectors.admit_packet(packet) {
            return Err(Refusal::Selectors);
        }
        match ecn::decapsulate(tos, packet) {
            EcnVerdict::Drop => Err(Refusal::Ecn),
            EcnVerdict::Unchanged | EcnVerdict::Marked => Ok(len),
        }
    }

    /// Jobs for what looks right and is not in the window yet; results for all others.
    fn check(
        &self,
        receiving: &mut Receiving,
        slab: &[u8],
        arrived: &[Arrived],
        scratch: &mut Scratch,
        results: &mut Vec<Result<Opened, Refusal>>,
    ) {
        scratch.jobs.clear();
        scratch.of.clear();
        for (of, packet) in arrived.iter().enumerate() {
            let bytes = &slab[packet.start..packet.start + packet.len];
            let text = layout::text_of(self.terms.suite, packet.len);
            let refusal = match (layout::read_header(bytes), text) {
                (Some((_, low)), Some(len)) => {
                    let number = receiving.window.infer(low);
                    match number.map(|number| (receiving.window.check(number), number)) {
                        Some((Verdict::Fresh, sequence)) => {
                            scratch.of.push(of);
                            scratch.jobs.push(EspJob {
                                sequence,
                                start: packet.start,
                                len,
                            });
                            // Until it has proved genuine.
                            results.push(Err(Refusal::BadIcv));
                            continue;
                        }
                        Some((Verdict::Replayed, _)) => Refusal::Replayed,
                        Some((Verdict::TooOld, _)) | None => Refusal::TooOld,
                    }
                }
                _ => Refusal::Malformed,
            };
            results.push(receiving.refuse(refusal));
        }
    }

    /// One packet after it was opened: counted, marked, its trailer read.
    fn accept(
        &self,
        receiving: &mut Receiving,
        slab: &[u8],
        job: &EspJob,
        genuine: bool,
    ) -> Result<Opened, Refusal> {
        if !genuine {
            receiving.false_in_a_row = receiving.false_in_a_row.saturating_add(1);
            return receiving.refuse(Refusal::BadIcv);
        }
        receiving.false_in_a_row = 0;
        // Again: the same packet may be twice in one batch.
        match receiving.window.accept(job.sequence) {
            Verdict::Fresh => {}
            Verdict::Replayed => return receiving.refuse(Refusal::Replayed),
            Verdict::TooOld => return receiving.refuse(Refusal::TooOld),
        }
        let start = job.start + layout::headroom(self.terms.suite);
        let Some(trailer) = layout::read_trailer(&slab[start..start + job.len]) else {
            return receiving.refuse(Refusal::Malformed);
        };
        if !receiving
            .account
            .charge(&self.terms.limits, trailer.payload)
        {
            return receiving.refuse(Refusal::Expired);
        }
        if trailer.next_header == layout::DUMMY {
            return receiving.refuse(Refusal::Dummy);
        }
        Ok(Opened {
            start,
            len: trailer.payload,
            next_header: trailer.next_header,
            number: job.sequence,
        })
    }

    /// Whether another high half is to be tried now for the first job, which is kept as it arrived: opening spoils it.
    fn keep_for_resync(
        &self,
        receiving: &Receiving,
        slab: &[u8],
        now_ns: u64,
        scratch: &mut Scratch,
    ) -> bool {
        let due = self.terms.esn
            && receiving.false_in_a_row >= RESYNC_AFTER
            && now_ns >= receiving.resync_ns;
        let Some(job) = scratch.jobs.first().filter(|_| due) else {
            return false;
        };
        let end = job.start + self.whole(job.len);
        scratch.kept.clear();
        scratch.kept.extend_from_slice(&slab[job.start..end]);
        true
    }

    /// Tries the first job, which proved false, with later high halves.
    fn resync(
        &self,
        receiving: &mut Receiving,
        slab: &mut [u8],
        now_ns: u64,
        scratch: &mut Scratch,
    ) {
        receiving.resync_ns = now_ns.saturating_add(RESYNC_EVERY_NS);
        let job = &mut scratch.jobs[0];
        let packet = job.start..job.start + self.whole(job.len);
        for step in 1..=RESYNC_TRIES {
            let Some(sequence) = job.sequence.checked_add(step << 32) else {
                return;
            };
            let guess = EspJob { sequence, ..*job };
            slab[packet.clone()].copy_from_slice(&scratch.kept);
            let genuine = &mut scratch.genuine[..1];
            self.cipher.open_many(slab, &[guess], genuine);
            if genuine[0] {
                *job = guess;
                return;
            }
        }
    }

    /// Bytes of a packet with this text.
    fn whole(&self, text: usize) -> usize {
        let suite = self.terms.suite;
        layout::headroom(suite) + text + suite.icv_len()
    }

    fn lock(&self) -> MutexGuard<'_, Receiving> {
        self.receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
