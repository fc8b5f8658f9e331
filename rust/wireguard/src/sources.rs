//! What the gate remembers of where handshakes came from: a table of fixed size.
//!
//! A *source* is an IPv4 address or an IPv6 /64: what one party gets without effort. It is known by a keyed hash, so that
//! nobody can aim at a place in the table. The table has 1,024 sets of 8 places; 448 KiB, for ever.
//! In a full set the source that was silent longest gives way, those that once handshook much later than others;
//! when none was silent for a second the newcomer gets no place, and whoever asks must do without.

use crate::constants::SECOND_NS;
use std::net::{IpAddr, Ipv6Addr};

const SETS: usize = 1024;
const WAYS: usize = 8;
/// A source keeps its place at least this long after its last message (the kernel's limiter sweeps as often).
const STALE_NS: u64 = SECOND_NS;
/// How long a genuine handshake speaks for its source: as long as its session can live.
const GOOD_NS: u64 = 180 * SECOND_NS;
/// Each refusal by the control plane weighs as a second of distrust where handshakes lately were genuine, ...
const FORGED_WEIGHT_NS: u64 = SECOND_NS;
/// ... and as eight where none was, ...
const STRANGER_FORGED_WEIGHT_NS: u64 = 8 * SECOND_NS;
/// ... each genuine handshake lifts four, ...
const GENUINE_WEIGHT_NS: u64 = 4 * SECOND_NS;
/// ... a source with more than this is suspect, ...
const SUSPECT_NS: u64 = 32 * SECOND_NS;
/// ... and there is never more than this, so that it is forgotten within a minute of silence.
const MAX_DISTRUST_NS: u64 = 64 * SECOND_NS;
/// Handshakes that a genuine one entitles its source to: two, so that a source of genuine ones doubles its credit
/// each time around, and one in which a third is forged just keeps it.
const REWARD: u16 = 2;
/// Most credit a source can hold: more than it may have in flight, less than a control plane notices when it is wasted.
const MAX_CREDIT: u16 = 1024;

/// The keyed hash of a source; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceId(pub(crate) u64);

/// A rate as the time at which it is used up: `tat_ns` runs ahead of the clock by what was taken (the virtual scheduling
/// algorithm of ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    tat_ns: u64,
}

impl Bucket {
    /// Whether `take` would succeed.
    pub(crate) fn has(self, rate: u64, burst: u64, now_ns: u64) -> bool {
        self.tat_ns <= now_ns + (burst - 1) * (SECOND_NS / rate)
    }

    /// Take one of `rate` a second, of which `burst` may come at once.
    pub(crate) fn take(&mut self, rate: u64, burst: u64, now_ns: u64) -> bool {
        let has = self.has(rate, burst, now_ns);
        if has {
            self.tat_ns = self.tat_ns.max(now_ns) + SECOND_NS / rate;
        }
        has
    }
}

/// One source's record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Source {
    /// Its last message.
    seen_ns: u64,
    /// Its last genuine handshake; 0 = none.
    genuine_ns: u64,
    /// Distrust as a time ahead of the clock: it goes by itself.
    distrust_until_ns: u64,
    /// The share of messages without a valid mac2, ...
    pub(crate) unproven: Bucket,
    /// ... and of those with one: who forges the address spends only the former.
    pub(crate) proven: Bucket,
    /// Handshakes earned by genuine ones.
    pub(crate) credit: u16,
    /// Initiations with the control plane.
    in_flight: u16,
}

impl Source {
    /// Refused by the control plane again and again.
    pub(crate) fn is_suspect(&self, now_ns: u64) -> bool {
        self.distrust_until_ns > now_ns + SUSPECT_NS
    }

    /// A handshake from here was genuine not long ago.
    pub(crate) fn is_good(&self, now_ns: u64) -> bool {
        self.genuine_ns != 0 && now_ns.saturating_sub(self.genuine_ns) < GOOD_NS
    }

    /// Initiations from here that wait, given that `waiting` wait in all: a lost word about one heals by itself.
    pub(crate) fn in_flight(&self, waiting: usize) -> usize {
        usize::from(self.in_flight).min(waiting)
    }

    pub(crate) fn spend_credit(&mut self) -> bool {
        let has = self.credit > 0;
        self.credit = self.credit.saturating_sub(1);
        has
    }

    pub(crate) fn admitted(&mut self, initiation: bool, waiting: usize, now_ns: u64) {
        self.seen_ns = now_ns;
        if initiation {
            self.in_flight = (self.in_flight(waiting) + 1).min(usize::from(u16::MAX)) as u16;
        }
    }

    /// The control plane's word. True for the first genuine handshake in a while.
    pub(crate) fn judged(&mut self, genuine: bool, now_ns: u64) -> bool {
        self.seen_ns = now_ns;
        self.in_flight = self.in_flight.saturating_sub(1);
        let distrust = self.distrust_until_ns.saturating_sub(now_ns);
        if genuine {
            let first = !self.is_good(now_ns);
            self.genuine_ns = now_ns;
            self.credit = (self.credit + REWARD).min(MAX_CREDIT);
            self.distrust_until_ns = now_ns + distrust.saturating_sub(GENUINE_WEIGHT_NS);
            return first;
        }
        self.credit = self.credit.saturating_sub(1);
        let weight = if self.is_good(now_ns) {
            FORGED_WEIGHT_NS
        } else {
            STRANGER_FORGED_WEIGHT_NS
        };
        self.distrust_until_ns = now_ns + (distrust + weight).min(MAX_DISTRUST_NS);
        false
    }

    /// When its place may be taken, by one that proved its address or by anyone.
    fn stale_at_ns(&self, now_ns: u64, for_proven: bool) -> u64 {
        let regard = if self.is_good(now_ns) && !for_proven {
            GOOD_NS
        } else {
            0
        };
        self.seen_ns + STALE_NS + regard
    }
}

/// All sources.
pub(crate) struct Sources {
    key: (u64, u64),
    /// 0 = free. Apart from the records, so that a set is searched in one cache line.
    ids: Vec<u64>,
    records: Vec<Source>,
}

impl Sources {
    pub(crate) fn new(key: (u64, u64)) -> Self {
        Self {
            key,
            ids: vec![0; SETS * WAYS],
            records: vec![Source::default(); SETS * WAYS],
        }
    }

    pub(crate) fn id(&self, addr: IpAddr) -> SourceId {
        let (family, bits) = match addr {
            IpAddr::V4(addr) => (4, u64::from(addr.to_bits())),
            IpAddr::V6(addr) => (6, (addr.to_bits() >> 64) as u64),
        };
        SourceId(siphash(self.key, [family, bits]).max(1))
    }

    /// The record of a source that has one.
    pub(crate) fn find(&mut self, id: SourceId) -> Option<&mut Source> {
        let at = self.position(id)?;
        Some(&mut self.records[at])
    }

    /// The record of a source, a new one if needed and possible.
    pub(crate) fn find_or_add(
        &mut self,
        id: SourceId,
        proven: bool,
        now_ns: u64,
    ) -> Option<&mut Source> {
        let at = self.position(id).or_else(|| self.add(id, proven, now_ns))?;
        Some(&mut self.records[at])
    }

    fn set(id: SourceId) -> std::ops::Range<usize> {
        let first = id.0 as usize % SETS * WAYS;
        first..first + WAYS
    }

    fn position(&self, id: SourceId) -> Option<usize> {
        let set = Self::set(id);
        let way = self.ids[set.clone()]
            .iter()
            .position(|&held| held == id.0)?;
        Some(set.start + way)
    }

    fn add(&mut self, id: SourceId, proven: bool, now_ns: u64) -> Option<usize> {
        let stale_at = |at: &usize| match self.ids[*at] {
            0 => 0,
            _ => self.records[*at].stale_at_ns(now_ns, proven),
        };
        let at = Self::set(id).min_by_key(stale_at)?;
        if stale_at(&at) > now_ns {
            return None;
        }
        self.ids[at] = id.0;
        self.records[at] = Source {
            seen_ns: now_ns,
            ..Source::default()
        };
        Some(at)
    }
}

/// The address by which a source is named to others: an IPv6 one stands for its /64.
pub(crate) fn name_of(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64)),
    }
}

/// SipHash-2-4 of two words (Aumasson and Bernstein, 2012).
fn siphash(key: (u64, u64), words: [u64; 2]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let length = 16 << 56;
    for word in [words[0], words[1], length] {
        v[3] ^= word;
        sip_rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_rounds(v: &mut [u64; 4], rounds: u32) {
    for _ in 0..rounds {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    const S: u64 = SECOND_NS;
    const T0: u64 = 1000 * S;

    #[test]
    fn the_hash_is_siphash() {
        #[allow(deprecated)]
        for round in 0..100_u64 {
            use std::hash::Hasher;
            let key = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15), !round);
            let words = [round << 50, round.wrapping_mul(0xbf58_476d_1ce4_e5b9)];
            let mut oracle = std::hash::SipHasher::new_with_keys(key.0, key.1);
            oracle.write(&words[0].to_le_bytes());
            oracle.write(&words[1].to_le_bytes());
            assert_eq!(siphash(key, words), oracle.finish());
        }
    }

    #[test]
    fn the_bucket_is_the_kernels_limiter() {
        const MS: u64 = S / 1000;
        // Five at once, one every 50 ms after, five again after 250 ms: the timing table of the kernel's own test.
        let table = [
            (0, true),
            (0, true),
            (0, true),
            (0, true),
            (0, true),
            (0, false),
            (50, true),
            (50, false),
            (99, false),
            (100, true),
            (100, false),
            (200, true),
            (200, true),
            (200, false),
            (500, true),
            (500, true),
            (500, true),
            (500, true),
            (500, true),
            (500, false),
        ];
        let mut bucket = Bucket::default();
        for (at_ms, expected) in table {
            assert_eq!(
                bucket.take(20, 5, T0 + at_ms * MS),
                expected,
                "at {at_ms} ms"
            );
        }
    }

    #[test]
    fn a_v6_source_is_a_slash_64_and_families_differ() {
        let sources = Sources::new((1, 2));
        let id = |text: &str| sources.id(text.parse().unwrap());
        assert_eq!(id("2001:db8:1:2::1"), id("2001:db8:1:2:ffff::9"));
        assert_ne!(id("2001:db8:1:2::1"), id("2001:db8:1:3::1"));
        assert_ne!(id("1.2.3.4"), id("1.2.3.5"));
        assert_ne!(id("0.0.0.1"), id("0:0:0:1::"));
        assert_eq!(
            name_of("2001:db8:1:2:3::9".parse().unwrap()),
            "2001:db8:1:2::".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn the_table_never_grows_and_its_good_stay() {
        let mut sources = Sources::new((3, 4));
        let good: Vec<_> = (0..1000_u32)
            .map(|n| sources.id(Ipv4Addr::from_bits(n).into()))
            .collect();
        for &id in &good {
            sources.find_or_add(id, true, T0).unwrap().judged(true, T0);
        }
        let mut refused = 0;
        for second in 1..100 {
            for n in 0..5_000_u32 {
                let id = sources.id(Ipv4Addr::from_bits((1 << 31) | (second * 5_000 + n)).into());
                refused += u32::from(
                    sources
                        .find_or_add(id, false, T0 + u64::from(second) * S)
                        .is_none(),
                );
            }
        }
        assert_eq!((sources.ids.len(), sources.records.len()), (8192, 8192));
        assert!(refused > 0, "a set full of fresh strangers takes no more");
        assert!(good.iter().all(|&id| sources
            .find(id)
            .is_some_and(|source| source.is_good(T0 + 100 * S))));
        // Who proves its address finds a place even among the good.
        let crowd: Vec<_> = (0..100_000_u32)
            .map(|n| sources.id(Ipv4Addr::from_bits(1 << 30 | n).into()))
            .collect();
        for (n, &id) in crowd.iter().enumerate() {
            let now = T0 + 101 * S + n as u64 * S / 200;
            sources
                .find_or_add(id, true, now)
                .unwrap()
                .judged(true, now);
        }
    }

    #[test]
    fn distrust_grows_with_forgeries_and_goes_by_itself() {
        let mut stranger = Source::default();
        for _ in 0..4 {
            stranger.judged(false, T0);
        }
        assert!(!stranger.is_suspect(T0));
        stranger.judged(false, T0);
        assert!(stranger.is_suspect(T0));
        for _ in 0..1000 {
            stranger.judged(false, T0);
        }
        assert!(stranger.is_suspect(T0 + 31 * S) && !stranger.is_suspect(T0 + 32 * S));

        let mut good = Source::default();
        good.judged(true, T0);
        for _ in 0..32 {
            good.judged(false, T0);
        }
        assert!(!good.is_suspect(T0));
        good.judged(false, T0);
        assert!(good.is_suspect(T0));
        good.judged(true, T0);
        assert!(!good.is_suspect(T0));
    }

    #[test]
    fn credit_is_earned_and_lost() {
        let mut source = Source::default();
        for _ in 0..10 {
            source.judged(true, T0);
        }
        assert_eq!(source.credit, 20);
        for _ in 0..5 {
            source.judged(false, T0);
        }
        assert_eq!(source.credit, 15);
        for _ in 0..20 {
            source.judged(false, T0);
        }
        assert!(!source.spend_credit());
        for _ in 0..10_000 {
            source.judged(true, T0);
        }
        assert_eq!(source.credit, MAX_CREDIT);
    }

    #[test]
    fn a_lost_word_about_a_handshake_heals() {
        let mut source = Source::default();
        for _ in 0..500 {
            source.admitted(true, 1000, T0);
        }
        assert_eq!(source.in_flight(1000), 500);
        assert_eq!(source.in_flight(3), 3);
        source.admitted(true, 3, T0);
        assert_eq!(source.in_flight(1000), 4);
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Source>() * SETS * WAYS + 8 * SETS * WAYS <= 512 * 1024);
    }
}
