//! What arrives in ESP: the packets of one turn by SPI, opened as batches, and what they bring.
//!
//! One turn: neighbours of one SPI and one place are a *run*; its tunnel and SA are found by the SPI alone, those of all runs before the first
//! is opened, so that nobody waits for a batch to take the tables; it is opened as one batch; what is genuine and within the SA's selectors loses what was around it for ESP's sake, and then goes through the checks of its
//! encapsulation (`receive`) as any packet does. In tunnel mode the delivery header inside must be the tunnel's own: between
//! its ends, whole (fragments of encapsulated packets are not put together here), of its protocol.
//!
//! An SPI of nobody is counted and told, seldom: a peer that has missed our restart may be helped by that, and anybody at all may send one.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use ginnel_esp::inbound::{Arrived, Inbound, Opened, Outer, Refusal};
use ginnel_esp::sa::{Mode, Scratch};
use ginnel_gre::demux::{GRE, IPV4_IN_IP, IPV6_IN_IP};
use ginnel_gre::options::{Kind, Options};
use ginnel_packet::ip::{self, Fragment, Ip};

use super::drops::PlainDrop;
use super::ike::Ports;
use super::plain::{Plain, Plan};
use super::protect::{reason, tell_expiring};
use super::Tables;
use crate::bucket::Bucket;
use crate::event::{Event, Events};

/// Unknown SPIs told in a second, and at once.
const STRANGERS_PER_S: u64 = 10;
/// And each source only once in this time.
const STRANGER_INTERVAL_NS: u64 = 10_000_000_000;
/// So many sources are remembered: as many as are told of in that time.
const MAX_STRANGERS: usize = 128;

/// One ESP packet in the slab, from its header on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub spi: u32,
    pub start: usize,
    pub len: usize,
    /// Port 0 unless in UDP.
    pub source: SocketAddr,
    pub local: IpAddr,
    pub tos: u8,
}

impl Arrival {
    fn continues(&self, other: &Self) -> bool {
        self.spi == other.spi
            && self.source == other.source
            && self.local == other.local
            && self.tos == other.tos
    }
}

/// What a genuine packet brought: where it lies, and as what.
pub(super) struct Brought {
    pub place: Range<usize>,
    /// 47: from its GRE header on. 4 or 41: an inner packet.
    pub protocol: u8,
    pub local: IpAddr,
    pub remote: IpAddr,
    /// What the encapsulation's delivery header says of congestion, or would have said.
    pub tos: u8,
}

/// Takes what a packet of this tunnel brought.
pub(super) type Bring<'a> = dyn FnMut(&mut [u8], &Arc<Plain>, Brought) + 'a;

/// Who sends for SPIs that are nobody's.
struct Strangers {
    bucket: Bucket,
    /// Until when each is not told of again.
    quiet: Vec<(IpAddr, u64)>,
}

impl Strangers {
    fn tell(&mut self, arrival: &Arrival, natt: bool, events: &Events, now_ns: u64) {
        if !self.bucket.ready(now_ns) || !events.takes_told() {
            return;
        }
        self.quiet.retain(|(_, until_ns)| now_ns < *until_ns);
        let source = arrival.source.ip();
        let known = self.quiet.iter().any(|(quiet, _)| *quiet == source);
        if known || self.quiet.len() >= MAX_STRANGERS || !self.bucket.take(now_ns) {
            return;
        }
        self.quiet.push((source, now_ns + STRANGER_INTERVAL_NS));
        events.push(Event::UnknownSpi {
            spi: arrival.spi,
            remote: arrival.source,
            local: arrival.local,
            natt,
        });
    }
}

/// Neighbours of one SPI from one place, and whose they are.
struct Run {
    arrivals: Range<usize>,
    tunnel: Arc<Plain>,
    sa: Arc<Inbound>,
}

/// Opens a turn's packets.
pub(super) struct Opener {
    arrivals: Vec<Arrival>,
    runs: Vec<Run>,
    run: Vec<Arrived>,
    results: Vec<Result<Opened, Refusal>>,
    scratch: Scratch,
    strangers: Strangers,
}

impl Opener {
    pub fn new() -> Self {
        Self {
            arrivals: Vec::new(),
            runs: Vec::new(),
            run: Vec::new(),
            results: Vec::new(),
            scratch: Scratch::default(),
            strangers: Strangers {
                bucket: Bucket::new(STRANGERS_PER_S, STRANGERS_PER_S),
                quiet: Vec::new(),
            },
        }
    }

    /// One more packet of this turn.
    pub fn take(&mut self, arrival: Arrival) {
        self.arrivals.push(arrival);
    }

    /// Whose packets were taken; those of nobody are forgotten.
    pub fn find(&mut self, tables: &Tables, counters: &Ports, events: &Events, now_ns: u64) {
        let mut at = 0;
        while let Some(first) = self.arrivals.get(at) {
            let others = &self.arrivals[at + 1..];
            let count = 1 + others
                .iter()
                .take_while(|next| next.continues(first))
                .count();
            let owner = tables.spis.find(first.spi);
            let owner = owner.and_then(|owner| Some((owner, tables.tunnels.get(&owner.tunnel)?)));
            if let Some((owner, tunnel)) = owner {
                self.runs.push(Run {
                    arrivals: at..at + count,
                    tunnel: tunnel.clone(),
                    sa: owner.sa.clone(),
                });
            } else {
                counters.count_unknown_spi(count as u64);
                let natt = first.source.port() != 0;
                self.strangers.tell(first, natt, events, now_ns);
            }
            at += count;
        }
    }

    /// Opens what `find` has found, in order; *bring* gets each packet's tunnel and what it brought. Lets go of everything.
    pub fn open(&mut self, slab: &mut [u8], events: &Events, now_ns: u64, bring: &mut Bring<'_>) {
        let mut runs = std::mem::take(&mut self.runs);
        for run in &runs {
            self.open_run(run, slab, events, now_ns, bring);
        }
        runs.clear();
        self.runs = runs;
        self.arrivals.clear();
    }

    fn open_run(
        &mut self,
        run: &Run,
        slab: &mut [u8],
        events: &Events,
        now_ns: u64,
        bring: &mut Bring<'_>,
    ) {
        let Run { tunnel, sa, .. } = run;
        let arrivals = &self.arrivals[run.arrivals.clone()];
        let Some(first) = arrivals.first() else {
            return;
        };
        let plan = tunnel.plan();
        if !plan.up {
            tunnel.drops.count(PlainDrop::Down, arrivals.len() as u64);
            return;
        }
        self.run.clear();
        self.run.extend(arrivals.iter().map(|arrival| Arrived {
            start: arrival.start,
            len: arrival.len,
        }));
        let scratch = &mut self.scratch;
        let outcome = sa.open(slab, &self.run, now_ns, scratch, &mut self.results);
        if outcome.first {
            events.push(Event::SaUsed {
                tunnel: tunnel.id,
                spi: first.spi,
            });
        }
        tell_expiring(tunnel.id, first.spi, true, outcome.expiring, events);
        let outer = Outer {
            source: first.source.ip(),
            destination: first.local,
            tos: first.tos,
            in_udp: first.source.port() != 0,
        };
        let mut genuine = false;
        for result in &self.results {
            let brought = result.map_err(reason).and_then(|opened| {
                genuine = true;
                let payload = &mut slab[opened.start..opened.start + opened.len];
                let len = sa.admit(&opened, &outer, payload).map_err(reason)?;
                let place = opened.start..opened.start + len;
                let next = opened.next_header;
                unwrap(tunnel, &plan, sa.mode(), next, &outer, place, slab)
            });
            match brought {
                Ok(brought) => bring(slab, tunnel, brought),
                Err(reason) => tunnel.drops.count(reason, 1),
            }
        }
        if let Some(protect) = tunnel.protect.as_ref().filter(|_| genuine) {
            protect.came_from(tunnel.id, first.spi, first.source, events, now_ns);
        }
    }
}

/// Takes off what is around the encapsulation for ESP's sake.
fn unwrap(
    tunnel: &Plain,
    plan: &Plan,
    mode: Mode,
    next_header: u8,
    outer: &Outer,
    place: Range<usize>,
    slab: &[u8],
) -> Result<Brought, PlainDrop> {
    let options = &plan.options;
    let bare = tunnel.protect.as_ref().is_some_and(|protect| protect.bare);
    let brought = Brought {
        local: options.local.unwrap_or(outer.destination),
        remote: options.remote.unwrap_or(outer.source),
        protocol: next_header,
        // In tunnel mode carried in already.
        tos: if mode == Mode::Tunnel { 0 } else { outer.tos },
        place,
    };
    match (mode, bare) {
        (Mode::Tunnel, true) => Ok(brought),
        (Mode::Transport, _) if carries(options.kind, next_header) => Ok(brought),
        (Mode::Transport, _) => Err(PlainDrop::WrongMode),
        (Mode::Tunnel, false) => strip(options, brought, slab),
    }
}

/// Takes off the delivery header inside, which must be this tunnel's.
fn strip(options: &Options, mut brought: Brought, slab: &[u8]) -> Result<Brought, PlainDrop> {
    let packet = &slab[brought.place.clone()];
    let at = ip::layout(packet).ok_or(PlainDrop::EspMalformed)?;
    if at.fragment != Fragment::Whole || !carries(options.kind, at.protocol) {
        return Err(PlainDrop::WrongMode);
    }
    let (Some(remote), Some(local)) = (ip::source(packet), ip::destination(packet)) else {
        return Err(PlainDrop::EspMalformed);
    };
    let other = |configured: Option<IpAddr>, seen| configured.is_some_and(|end| end != seen);
    if other(options.remote, remote) || other(options.local, local) {
        return Err(PlainDrop::Selectors);
    }
    brought.tos = match (at.ip, packet) {
        (Ip::V4, [_, tos, ..]) => *tos,
        (Ip::V6, [first, second, ..]) => first << 4 | second >> 4,
        _ => 0,
    };
    brought.protocol = at.protocol;
    (brought.local, brought.remote) = (local, remote);
    brought.place.start = (brought.place.start + at.transport).min(brought.place.end);
    Ok(brought)
}

/// Whether a kind's encapsulation has this protocol number.
fn carries(kind: Kind, protocol: u8) -> bool {
    match kind {
        Kind::Gre | Kind::GreTap => protocol == GRE,
        Kind::Ipip => protocol == IPV4_IN_IP,
        Kind::Sit => protocol == IPV6_IN_IP,
        Kind::Ip6Tnl => matches!(protocol, IPV4_IN_IP | IPV6_IN_IP),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn arrival(last: u8) -> Arrival {
        let address = IpAddr::from([192, 0, 2, last]);
        Arrival {
            spi: 0x1234,
            start: 0,
            len: 0,
            source: SocketAddr::new(address, 4500),
            local: address,
            tos: 0,
        }
    }

    #[test]
    fn strangers_are_told_of_seldom_and_each_but_once_in_ten_seconds() {
        const SECOND: u64 = 1_000_000_000;
        let events = Events::new().unwrap();
        let mut opener = Opener::new();
        let mut told = |last: u8, now_ns: u64| {
            let strangers = &mut opener.strangers;
            strangers.tell(&arrival(last), true, &events, now_ns);
            events.drain(100).len()
        };
        let start_ns = 5 * SECOND;
        assert_eq!((0..100).map(|_| told(1, start_ns)).sum::<usize>(), 1);
        // Many at once: what is left of ten.
        assert_eq!((2..200).map(|last| told(last, start_ns)).sum::<usize>(), 9);
        assert_eq!(told(1, start_ns + 9 * SECOND), 0);
        assert_eq!(told(1, start_ns + 11 * SECOND), 1);
        for at in 0..60 * SECOND / 50_000_000 {
            told(at as u8, start_ns + 20 * SECOND + at * 50_000_000);
        }
        assert!(opener.strangers.quiet.len() <= MAX_STRANGERS);
    }

    /// Whatever a genuine peer puts inside: no panic, and nothing of another tunnel.
    #[test]
    fn a_delivery_header_inside_that_is_cut_or_wrong_is_refused() {
        let (local, remote) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let options = Options::new(Kind::Gre, Some(local), Some(remote));
        let mut packet = vec![0x45, 0xb8, 0, 28, 0, 1, 0, 0, 64, GRE, 0, 0];
        packet.extend([10, 0, 0, 2, 10, 0, 0, 1, 0, 0, 8, 0, 1, 2, 3, 4]);
        let brought = |place| Brought {
            place,
            protocol: IPV4_IN_IP,
            local,
            remote,
            tos: 0,
        };
        let whole = strip(&options, brought(0..packet.len()), &packet)
            .ok()
            .unwrap();
        assert_eq!(
            (whole.place, whole.protocol, whole.tos),
            (20..28, GRE, 0xb8)
        );
        for end in 0..20 {
            let cut = strip(&options, brought(0..end), &packet);
            assert_eq!(cut.err(), Some(PlainDrop::EspMalformed), "{end}");
        }
        for (at, value, expected) in [
            (0, 0x44, PlainDrop::EspMalformed),
            (6, 0x20, PlainDrop::WrongMode),
            (7, 1, PlainDrop::WrongMode),
            (9, 17, PlainDrop::WrongMode),
            (15, 9, PlainDrop::Selectors),
            (19, 9, PlainDrop::Selectors),
        ] {
            let mut wrong = packet.clone();
            wrong[at] = value;
            let refused = strip(&options, brought(0..wrong.len()), &wrong);
            assert_eq!(refused.err(), Some(expected), "byte {at}");
        }
    }
}
