//! What stands between the socket and the handshake queue.
//!
//! A handshake message costs the control plane some 100 us, and its sender nothing. The gate decides, for about a
//! microsecond, which ones may. Its promises, each a test below that runs them against a simulated control plane:
//!
//! - Genuine handshakes of any number of peers behind *one* address are served as fast as the control plane can;
//!   offered more than that, it still serves as many. There is no cliff.
//! - A flood from one address costs next to nothing, and a new peer elsewhere is answered at once, without a cookie.
//! - In a flood from random addresses a new peer needs the protocol's one retry with a cookie.
//! - Memory is fixed: half a MiB an interface.
//!
//! # The protocol's part (paper 5.4.7; kernel `receive.c`, `cookie.c`, `ratelimiter.c`)
//!
//! A message must have its exact length and a valid mac1. Under load (an eighth of the queue of 4,096 is taken, or was
//! within the last second) a message with a valid mac2 is served at 20 a second for each source, beyond which it is dropped without a
//! word; one without is answered by a cookie.
//!
//! # What that lacks, and what is added
//!
//! Judged by that rule alone, 6,000 genuine handshakes a second from one address push the queue past an eighth once, and
//! everybody is then asked for a cookie and held to 20 a second while the control plane idles; a flood makes strangers to it
//! wait 5 s for their second try. So the gate remembers sources (see `sources`), and under load a message without a
//! cookie is nevertheless admitted:
//!
//! 1. *On credit.* Each genuine handshake entitles its source to two more, each forged one takes one away, and there is
//!    never more than 1,024 of it. An office full of peers doubles its credit each time around; a stranger has none. What
//!    is bounded is not its rate but how many of its messages wait at once (768: about 100 ms of work, and more than enough
//!    that the control plane never waits for them): the spare capacity is its own, whatever that is today.
//! 2. *As a newcomer.* 20 a second of each source, and together from a purse of 256 a second, which every source's first genuine
//!    handshake refills by two: honest crowds open it as fast as they are served, spoofed ones leave it at 256, 1.5 % of a
//!    core. A flood from one address can take no more than 20 of it, so it is there for the peer from elsewhere.
//!
//! And a source is *suspect*, load or no load, after five forgeries without a genuine handshake lately, or 32 more forgeries than
//! genuine ones: it is asked for a cookie at once, gets nothing on credit, and of the purse only what newcomers leave, its upper
//! half. A flood from one address, or from hundreds, therefore never even begins to load the interface a second time. Being
//! suspect costs an honest peer there one retry, and passes within a minute.
//!
//! Load lasts while the gate still asks for more than 256 cookies a second, so that a spoofed flood does not get 512 free
//! messages every second only because it was fended off in the last. And more than 1,000 forged ones within a second are load though
//! the queue be empty: 6 % of a core spent on strangers.
//!
//! Cookie replies cost some 3 us each with their way out. All together are held to 60,000 a second, and those to one source to 256
//! unless a genuine handshake came from there lately: who floods an address that is not his own cannot keep its owner from
//! getting cookies. A peer that has never been seen, at an address that someone forges at full rate, may have to wait.
//!
//! Who has proven its address by a cookie is limited apart from who has not: forged messages spend nothing of it.
//!
//! A response needs no purse: the engine lets one through only for an index that we reserved, which a stranger cannot guess.

use crate::constants::{
    COOKIE_REPLY_SIZE, INITIATION_SIZE, MAX_QUEUED_HANDSHAKES, RESPONSE_SIZE, SECOND_NS,
    SOURCE_BURST, SOURCE_RATE_PER_SECOND, TYPE_COOKIE_REPLY, TYPE_INITIATION, TYPE_RESPONSE,
    UNDER_LOAD_HANDSHAKES, UNDER_LOAD_STICKY_NS,
};
use crate::cookie::Cookies;
use crate::heavy::Heavy;
use crate::sources::{Bucket, SourceId, Sources};
use std::net::{IpAddr, SocketAddr};

/// Initiations of one source that may wait at once on credit.
const SHARE_IN_FLIGHT: usize = 768;
/// ... and with a cookie as well.
const PROVEN_SHARE_IN_FLIGHT: usize = 2 * SHARE_IN_FLIGHT;
/// What the control plane may hold beyond the queue: the events it takes at once.
const DRAINED_AT_ONCE: usize = 256;
/// Newcomers admitted without a cookie, all together: a second, and at once.
const PURSE_RATE: u64 = 256;
const PURSE_BURST: u64 = 256;
/// What honest crowds add to the purse at most.
const PURSE_MAX_CREDIT: u16 = 1024;
/// Cookies asked within a second that prolong the load.
const PRESSURE: u32 = 256;
/// Forged initiations within a second that are load by themselves.
const WASTE: u32 = 1024;
/// Cookie replies a second and at once, all together.
const COOKIE_RATE: u64 = 60_000;
const COOKIE_BURST: u64 = 6_000;
/// Cookie replies to one source within `COOKIE_PERIOD_NS`: 256 a second.
const SOURCE_COOKIES: u8 = 64;
const COOKIE_PERIOD_NS: u64 = SECOND_NS / 4;
/// Counters of cookies by source, more than there are replies in a period.
const COOKIE_COUNTERS: usize = 16_384;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Queue it for the control plane.
    Accept,
    /// Send this cookie reply to where the message came from, and forget the message.
    Cookie([u8; COOKIE_REPLY_SIZE]),
    /// Forget it.
    Drop(Reason),
}

/// Why a message is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not a type 1, 2 or 3 of exactly its length.
    BadLength,
    /// The sender does not know our public key.
    BadMac1,
    /// We have none.
    NoKey,
    /// Its source had its share.
    RateLimited,
    /// Too much waits already.
    Overload,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initiation,
    Response,
    CookieReply,
}

/// The gate of one interface.
pub struct Gate {
    cookies: Cookies,
    sources: Sources,
    heavy: Heavy,
    /// Under load until then.
    loaded_until_ns: u64,
    /// What newcomers share.
    purse: Bucket,
    purse_credit: u16,
    /// All cookie replies.
    cookie_rate: Bucket,
    /// Cookie replies of this period by hash of the source.
    cookie_counters: Vec<u8>,
    cookie_period: u64,
    /// Cookies asked of sources not suspect, and initiations that proved forged, since `since_ns`.
    asked: u32,
    forged: u32,
    since_ns: u64,
}

impl Gate {
    /// `secret_seed` is random and never used for anything else.
    pub fn new(secret_seed: [u8; 32]) -> Self {
        let hashed = ginnel_crypto::blake2s::hash(&[&secret_seed, b"sources"]);
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| hashed[at + byte]));
        Self {
            cookies: Cookies::new(&secret_seed),
            sources: Sources::new((word(0), word(8))),
            heavy: Heavy::new(),
            loaded_until_ns: 0,
            purse: Bucket::default(),
            purse_credit: 0,
            cookie_rate: Bucket::default(),
            cookie_counters: vec![0; COOKIE_COUNTERS],
            cookie_period: 0,
            asked: 0,
            forged: 0,
            since_ns: 0,
        }
    }

    /// The interface's public key; without one every message is refused.
    pub fn set_public_key(&mut self, public: Option<&[u8; 32]>) {
        self.cookies.set_public_key(public);
    }

    /// Judge one datagram of type 1, 2 or 3 (types and lengths are checked here).
    ///
    /// Args: `src`, where it came from; `pending`, handshakes that wait for the control plane now; `now_ns`, a clock that
    /// never goes back (when it does all the same, limits last longer, and nothing worse).
    pub fn check(&mut self, msg: &[u8], src: &SocketAddr, pending: usize, now_ns: u64) -> Verdict {
        let sources = &mut self.sources;
        self.heavy.roll(now_ns, |addr| {
            let id = sources.id(addr);
            sources
                .find(id)
                .is_some_and(|source| source.is_good(now_ns))
        });
        let verdict = self.judge(msg, src, pending, now_ns);
        if !matches!(verdict, Verdict::Accept | Verdict::Drop(Reason::NoKey)) {
            self.heavy.count(src.ip());
        }
        verdict
    }

    /// The control plane's word about an initiation that was accepted from `src`: whether it came from one of our peers.
    pub fn outcome(&mut self, src: &SocketAddr, genuine: bool, now_ns: u64) {
        let id = self.sources.id(src.ip());
        // A genuine handshake has proven its address as a cookie does.
        let source = if genuine {
            self.sources.find_or_add(id, true, now_ns)
        } else {
            self.sources.find(id)
        };
        if source.is_some_and(|source| source.judged(genuine, now_ns)) {
            self.purse_credit = (self.purse_credit + 2).min(PURSE_MAX_CREDIT);
        }
        if !genuine {
            self.feel_pressure(0, 1, now_ns);
        }
    }

    /// Addresses whose initiations are better dropped by the kernel (see `filter`): more than 1,000 a second of them were
    /// refused, and no genuine handshake came from there within three minutes. At most 16 of each family; an IPv6 address
    /// stands for its /64.
    pub fn heavy_hitters(&self, now_ns: u64) -> Vec<IpAddr> {
        self.heavy.listed(now_ns)
    }

    /// Whether the interface is under load, for `status`.
    pub fn is_under_load(&self, now_ns: u64) -> bool {
        now_ns < self.loaded_until_ns
    }

    fn judge(&mut self, msg: &[u8], src: &SocketAddr, pending: usize, now_ns: u64) -> Verdict {
        let Some(kind) = kind_of(msg) else {
            return Verdict::Drop(Reason::BadLength);
        };
        if !self.cookies.has_key() {
            return Verdict::Drop(Reason::NoKey);
        }
        let id = self.sources.id(src.ip());
        if pending >= UNDER_LOAD_HANDSHAKES {
            self.loaded_until_ns = now_ns + UNDER_LOAD_STICKY_NS;
        }
        let suspect = self
            .sources
            .find(id)
            .is_some_and(|source| source.is_suspect(now_ns));
        let loaded = self.is_under_load(now_ns);
        if pending >= MAX_QUEUED_HANDSHAKES {
            return Verdict::Drop(Reason::Overload);
        }
        if kind == Kind::CookieReply {
            return self.judge_cookie_reply(id, suspect || loaded, now_ns);
        }
        // A flood is mostly this: a suspect whose every share is used up. Whatever its macs, it gets nothing.
        if suspect && !self.may_get_anything(id, msg, src, now_ns) {
            return Verdict::Drop(Reason::RateLimited);
        }
        if !self.cookies.mac1_is_valid(msg) {
            return Verdict::Drop(Reason::BadMac1);
        }
        let initiation = kind == Kind::Initiation;
        let waiting = pending + DRAINED_AT_ONCE;
        if !(suspect || loaded) {
            // It may find no place in the table; then nothing is remembered of it.
            if let Some(source) = self.sources.find_or_add(id, false, now_ns) {
                source.admitted(initiation, waiting, now_ns);
            }
            return Verdict::Accept;
        }
        if self.cookies.mac2_is_valid(msg, src, now_ns) {
            return self.judge_proven(id, initiation, waiting, now_ns);
        }
        if self.admits_unproven(id, initiation, suspect, waiting, now_ns) {
            return Verdict::Accept;
        }
        if !suspect {
            self.feel_pressure(1, 0, now_ns);
        }
        self.ask_for_cookie(id, msg, src, now_ns)
    }

    /// Cookie replies have no mac of ours and answer what we sent; under load each source has its share of them.
    fn judge_cookie_reply(&mut self, id: SourceId, limited: bool, now_ns: u64) -> Verdict {
        if !limited {
            return Verdict::Accept;
        }
        let source = self.sources.find_or_add(id, false, now_ns);
        if source.is_some_and(|source| {
            source
                .unproven
                .take(SOURCE_RATE_PER_SECOND, SOURCE_BURST, now_ns)
        }) {
            Verdict::Accept
        } else {
            Verdict::Drop(Reason::RateLimited)
        }
    }

    /// Whether a message of a suspect source could have any answer at all; mostly found without hashing.
    fn may_get_anything(
        &mut self,
        id: SourceId,
        msg: &[u8],
        src: &SocketAddr,
        now_ns: u64,
    ) -> bool {
        self.roll_cookie_counters(now_ns);
        let asked = self.cookie_counters[cookie_counter(id)];
        let cookie_left = self.cookie_rate.has(COOKIE_RATE, COOKIE_BURST, now_ns);
        let purse = self.purse_has(true, now_ns);
        let by_share = self.sources.find(id).is_some_and(|source| {
            let share = purse
                && source
                    .unproven
                    .has(SOURCE_RATE_PER_SECOND, SOURCE_BURST, now_ns);
            share || cookie_left && (asked < SOURCE_COOKIES || source.is_good(now_ns))
        });
        // mac2 covers mac1: a flood with random bytes there costs no more than this one.
        by_share || self.cookies.mac2_is_valid(msg, src, now_ns)
    }

    /// A message whose sender has our cookie.
    fn judge_proven(
        &mut self,
        id: SourceId,
        initiation: bool,
        waiting: usize,
        now_ns: u64,
    ) -> Verdict {
        let Some(source) = self.sources.find_or_add(id, true, now_ns) else {
            return Verdict::Drop(Reason::RateLimited);
        };
        if initiation && source.in_flight(waiting) >= PROVEN_SHARE_IN_FLIGHT {
            return Verdict::Drop(Reason::Overload);
        }
        if !source
            .proven
            .take(SOURCE_RATE_PER_SECOND, SOURCE_BURST, now_ns)
            && !source.spend_credit()
        {
            return Verdict::Drop(Reason::RateLimited);
        }
        source.admitted(initiation, waiting, now_ns);
        Verdict::Accept
    }

    /// Whether to admit a message without a cookie though one could be asked for. What it is admitted on is spent.
    fn admits_unproven(
        &mut self,
        id: SourceId,
        initiation: bool,
        suspect: bool,
        waiting: usize,
        now_ns: u64,
    ) -> bool {
        let purse = self.purse_has(suspect, now_ns);
        if let Some(source) = self.sources.find(id) {
            if initiation && source.in_flight(waiting) >= SHARE_IN_FLIGHT {
                return false;
            }
            if !suspect && source.spend_credit() {
                source.admitted(initiation, waiting, now_ns);
                return true;
            }
        }
        if initiation && !purse {
            // Nothing is remembered of those: a spoofed flood leaves no trace in the table.
            return false;
        }
        let Some(source) = self.sources.find_or_add(id, false, now_ns) else {
            return false;
        };
        let good = source.is_good(now_ns);
        if !source
            .unproven
            .take(SOURCE_RATE_PER_SECOND, SOURCE_BURST, now_ns)
        {
            return false;
        }
        source.admitted(initiation, waiting, now_ns);
        if initiation && (suspect || !good) {
            self.take_from_purse(now_ns);
        }
        true
    }

    /// Suspects may only take while more than half is left.
    fn purse_has(&self, suspect: bool, now_ns: u64) -> bool {
        if suspect {
            return self.purse.has(PURSE_RATE, PURSE_BURST / 2, now_ns);
        }
        self.purse_credit > 0 || self.purse.has(PURSE_RATE, PURSE_BURST, now_ns)
    }

    fn take_from_purse(&mut self, now_ns: u64) {
        if !self.purse.take(PURSE_RATE, PURSE_BURST, now_ns) {
            self.purse_credit = self.purse_credit.saturating_sub(1);
        }
    }

    fn ask_for_cookie(
        &mut self,
        id: SourceId,
        msg: &[u8],
        src: &SocketAddr,
        now_ns: u64,
    ) -> Verdict {
        self.roll_cookie_counters(now_ns);
        let good = self
            .sources
            .find(id)
            .is_some_and(|source| source.is_good(now_ns));
        let asked = &mut self.cookie_counters[cookie_counter(id)];
        if !good && *asked >= SOURCE_COOKIES {
            return Verdict::Drop(Reason::RateLimited);
        }
        if !self.cookie_rate.take(COOKIE_RATE, COOKIE_BURST, now_ns) {
            return Verdict::Drop(Reason::Overload);
        }
        *asked = asked.saturating_add(1);
        match self.cookies.reply(msg, src, now_ns) {
            Some(reply) => Verdict::Cookie(reply),
            None => Verdict::Drop(Reason::NoKey),
        }
    }

    fn roll_cookie_counters(&mut self, now_ns: u64) {
        let period = now_ns / COOKIE_PERIOD_NS;
        if period != self.cookie_period {
            self.cookie_period = period;
            self.cookie_counters.fill(0);
        }
    }

    /// Load that shows elsewhere than in the queue.
    fn feel_pressure(&mut self, asked: u32, forged: u32, now_ns: u64) {
        if now_ns.saturating_sub(self.since_ns) >= SECOND_NS {
            self.since_ns = now_ns;
            (self.asked, self.forged) = (0, 0);
        }
        self.asked = self.asked.saturating_add(asked);
        self.forged = self.forged.saturating_add(forged);
        if self.asked >= PRESSURE || self.forged >= WASTE {
            self.loaded_until_ns = now_ns + UNDER_LOAD_STICKY_NS;
        }
    }
}

fn cookie_counter(id: SourceId) -> usize {
    // Other bits than those that choose the set in the table.
    (id.0 >> 32) as usize % COOKIE_COUNTERS
}

fn kind_of(msg: &[u8]) -> Option<Kind> {
    let kind = u32::from_le_bytes(*msg.first_chunk()?);
    match (kind, msg.len()) {
        (TYPE_INITIATION, INITIATION_SIZE) => Some(Kind::Initiation),
        (TYPE_RESPONSE, RESPONSE_SIZE) => Some(Kind::Response),
        (TYPE_COOKIE_REPLY, COOKIE_REPLY_SIZE) => Some(Kind::CookieReply),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
