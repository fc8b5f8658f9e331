//! The receiving thread: sockets -> session -> peer -> device; handshake messages to the load gate and on to the control plane.
//!
//! One turn: take what recvmmsg has; walk its datagrams into *runs* (consecutive data messages of one session from one place); open
//! each run as a batch; then, in order and under the peer's lock, check the counter, roam, confirm, run the timers; then check each
//! inner packet and hand it to the coalescer, which writes to the device. Order within a flow is the order of arrival.
//!
//! What is checked when (the order matters and is tested): age before opening; counter limit and replay after it; the endpoint moves
//! for every authenticated packet, even one whose inner source is then refused.
//!
//! What was decrypted stays in the slab until the next datagrams overwrite it: it is what the device was given, in memory that only this
//! process reads. Keys do not stay: a turn lets go of its sessions at its end.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use ginnel_crypto::{Job, TAG_SIZE};
use ginnel_packet::coalesce::{Coalescer, Limits, MAX_RANGES};
use ginnel_packet::ecn::{self, EcnVerdict};
use ginnel_packet::ip;
use ginnel_packet::split::{split, SegmentSink};
use ginnel_packet::virtio::{VirtioNetHdr, GSO_NONE};
use ginnel_wireguard::constants::{MAX_QUEUED_HANDSHAKES, REJECT_AFTER_MESSAGES};
use ginnel_wireguard::gate::{Reason, Verdict};

use crate::drops::Drop;
use crate::event::{Event, Need, Source, MAX_MESSAGE};
use crate::peer::Peer;
use crate::session::Session;
use crate::shared::{is_device_gone, Shared};
use crate::slab::HEADER;
use crate::sys::clock::boottime_ns;
use crate::sys::poll::{Poll, Ready};
use crate::sys::tun::Tun;
use crate::sys::udp::{Outgoing, Pair, ReceiveScratch, Received, SendScratch, Udp};
use crate::{lock, read};

const TAG_V4: u64 = 1;
const TAG_V6: u64 = 2;
const TAG_WAKE: u64 = 3;
const COOKIE_REPLY: usize = 64;
/// Turns for one socket before the other is looked at: a flood over one family must not starve the other.
const TURNS_AT_ONCE: usize = 8;
/// Receives that fail one after another before the socket is given up: an error of the network is taken off the socket by being told, one
/// that stays would have us spin.
const MAX_FAILURES: u32 = 1000;
/// How long coalesced packets are cut again after the kernel refused one; then it is asked again.
const COALESCE_PAUSE_NS: u64 = 1_000_000_000;
/// How often the list of flooding addresses is looked at.
const FILTER_PERIOD_NS: u64 = 250_000_000;

/// Consecutive data messages of one session from one place.
struct Run {
    peer: Arc<Peer>,
    session: Arc<Session>,
    source: Source,
    tos: u8,
    jobs: Range<usize>,
}

struct Receiver {
    shared: Arc<Shared>,
    device: Arc<Tun>,
    scratch: ReceiveScratch,
    received: Vec<Received>,
    runs: Vec<Run>,
    jobs: Vec<Job>,
    ok: Vec<bool>,
    coalescer: Coalescer,
    cookies: Vec<u8>,
    cookies_to: Vec<Source>,
    send_scratch: SendScratch,
    device_failed: Option<io::Error>,
    /// Until then coalesced packets are cut again, because the kernel refused one.
    coalesce_again_ns: u64,
    /// Addresses whose floods the sockets' filter stops now, and when to look again.
    listed: Vec<IpAddr>,
    look_again_ns: u64,
}

pub(crate) fn run(shared: &Arc<Shared>) -> io::Result<()> {
    let device = shared.device()?;
    let limits = Limits {
        tcp: device.tcp_offload.is_ok(),
        udp: device.udp_offload.is_ok(),
    };
    let mut receiver = Receiver {
        shared: shared.clone(),
        device,
        scratch: ReceiveScratch::new(),
        received: Vec::new(),
        runs: Vec::new(),
        jobs: Vec::new(),
        ok: Vec::new(),
        coalescer: Coalescer::new(limits),
        cookies: Vec::new(),
        cookies_to: Vec::new(),
        send_scratch: SendScratch::default(),
        device_failed: None,
        coalesce_again_ns: 0,
        listed: Vec::new(),
        look_again_ns: 0,
    };
    while !shared.stop.load(Ordering::Acquire) {
        let generation = shared.sockets_generation.load(Ordering::Acquire);
        let pair = shared.sockets();
        receiver.serve(pair.as_deref(), generation)?;
    }
    Ok(())
}

impl Receiver {
    /// Reads one pair of sockets until they are replaced or the tunnel ends.
    fn serve(&mut self, pair: Option<&Pair>, generation: u64) -> io::Result<()> {
        let shared = self.shared.clone();
        let poll = Poll::new()?;
        poll.add(shared.receive_wake.as_raw_fd(), TAG_WAKE)?;
        let sockets: Vec<(u64, &Udp)> = pair
            .into_iter()
            .flat_map(Pair::each)
            .map(|udp| (if udp.is_v6() { TAG_V6 } else { TAG_V4 }, udp))
            .collect();
        for (tag, socket) in &sockets {
            poll.add(socket.as_raw_fd(), *tag)?;
            socket.keep_only_messages(&self.listed);
        }
        let mut ready = Poll::no_ready::<4>();
        let mut failures = 0;
        let current = || {
            shared.sockets_generation.load(Ordering::Acquire) == generation
                && !shared.stop.load(Ordering::Acquire)
        };
        while current() {
            // With addresses listed the filter may hide that their flood has ended: look without being woken.
            let timeout_ns = (!self.listed.is_empty()).then_some(FILTER_PERIOD_NS);
            let count = poll.wait(timeout_ns, &mut ready)?;
            self.keep_filter(pair, boottime_ns());
            for Ready { tag, .. } in &ready[..count] {
                if *tag == TAG_WAKE {
                    shared.receive_wake.clear();
                }
                let Some((_, socket)) = sockets.iter().find(|(socket_tag, _)| socket_tag == tag)
                else {
                    continue;
                };
                for _ in 0..TURNS_AT_ONCE {
                    if !current() {
                        break;
                    }
                    match socket.receive_many(&mut self.scratch, &mut self.received) {
                        Ok(()) => failures = 0,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) if failures == MAX_FAILURES => return Err(error),
                        // An ICMP error of an earlier send (ECONNREFUSED and the like): taken off the socket, not ours to act on.
                        Err(_) => {
                            failures += 1;
                            break;
                        }
                    }
                    let now_ns = boottime_ns();
                    self.turn(socket, now_ns);
                    self.keep_filter(pair, now_ns);
                    if let Some(error) = self.device_failed.take() {
                        return Err(error);
                    }
                    if self.received.len() < 2 {
                        // Nothing piled up: ask epoll rather than the socket again.
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Has the kernel drop the initiations of the addresses that flood now, and of those alone.
    fn keep_filter(&mut self, pair: Option<&Pair>, now_ns: u64) {
        if now_ns < self.look_again_ns {
            return;
        }
        self.look_again_ns = now_ns + FILTER_PERIOD_NS;
        let listed = lock(&self.shared.gate).heavy_hitters(now_ns);
        if listed != self.listed {
            for socket in pair.into_iter().flat_map(Pair::each) {
                socket.keep_only_messages(&listed);
            }
            self.listed = listed;
        }
    }

    fn turn(&mut self, socket: &Udp, now_ns: u64) {
        self.runs.clear();
        self.jobs.clear();
        let received = std::mem::take(&mut self.received);
        for message in &received {
            self.walk(message, now_ns);
        }
        self.received = received;
        let lost = socket.newly_lost(&mut self.scratch);
        self.shared.drops.count(Drop::AtSocket, u64::from(lost));
        let runs = std::mem::take(&mut self.runs);
        for run in &runs {
            self.open(run, now_ns);
        }
        // Put back empty: sessions are let go, so that retired keys are zeroed now and not with the next batch.
        self.runs = runs;
        self.runs.clear();
        self.write_device(now_ns);
        self.answer_cookies(socket);
    }

    /// Sorts the datagrams of one message: data into runs, the rest to the gate.
    fn walk(&mut self, message: &Received, now_ns: u64) {
        if message.truncated {
            self.shared.drops.count(Drop::Truncated, 1);
            return;
        }
        let source = Source {
            from: message.from,
            to: message.to,
        };
        if message.len == 0 {
            self.shared.drops.count(Drop::BadLength, 1);
            return;
        }
        let segment = message.segment.max(1);
        let mut start = message.start;
        let end = message.start + message.len;
        while start < end {
            let len = segment.min(end - start);
            self.datagram(start, len, source, message.tos, now_ns);
            start += len;
        }
    }

    fn datagram(&mut self, start: usize, len: usize, source: Source, tos: u8, now_ns: u64) {
        let drops = &self.shared.drops;
        if len < 4 {
            drops.count(Drop::BadLength, 1);
            return;
        }
        let slab = self.scratch.slab();
        match u32_at(slab, start) {
            4 if len >= HEADER + TAG_SIZE => {}
            4 => {
                drops.count(Drop::BadLength, 1);
                return;
            }
            kind @ 1..=3 => {
                let mut message = [0; MAX_MESSAGE];
                if len > MAX_MESSAGE {
                    drops.count(Drop::BadLength, 1);
                    return;
                }
                message[..len].copy_from_slice(&slab[start..start + len]);
                self.handshake(kind, &message, len, source, now_ns);
                return;
            }
            _ => {
                drops.count(Drop::UnknownType, 1);
                return;
            }
        }
        let index = u32_at(slab, start + 4);
        let counter = u64_at(slab, start + 8);
        let job = Job {
            counter,
            start: start + HEADER,
            len: len - HEADER,
        };
        let at = self.jobs.len();
        if let Some(run) = self.runs.last_mut() {
            if run.session.local_index == index && run.source == source && run.tos == tos {
                self.jobs.push(job);
                run.jobs.end = at + 1;
                return;
            }
        }
        let found = match read(&self.shared.indices).get(&index) {
            Some(entry) => entry
                .session
                .as_ref()
                .map(|session| (entry.peer.clone(), session.clone())),
            None => None,
        };
        let Some((peer, session)) = found else {
            drops.count(Drop::UnknownIndex, 1);
            return;
        };
        self.jobs.push(job);
        self.runs.push(Run {
            peer,
            session,
            source,
            tos,
            jobs: at..at + 1,
        });
    }

    /// Opens a run and does what its authenticated packets ask for.
    fn open(&mut self, run: &Run, now_ns: u64) {
        let shared = self.shared.clone();
        let jobs = &self.jobs[run.jobs.clone()];
        let count = jobs.len();
        if !run.session.is_alive(now_ns) {
            shared.drops.count(Drop::SessionExpired, count as u64);
            return;
        }
        self.ok.clear();
        self.ok.resize(count, false);
        let slab = self.scratch.slab();
        run.session.receiving.open_many(slab, jobs, &mut self.ok);
        {
            let mut window = lock(&run.session.window);
            for (job, ok) in jobs.iter().zip(&mut self.ok) {
                if !*ok {
                    shared.drops.count(Drop::AuthenticationFailed, 1);
                } else if job.counter >= REJECT_AFTER_MESSAGES {
                    shared.drops.count(Drop::CounterLimit, 1);
                    *ok = false;
                } else if !window.accept(job.counter) {
                    shared.drops.count(Drop::Replay, 1);
                    *ok = false;
                }
            }
        }
        let authenticated = self.ok.iter().filter(|ok| **ok).count();
        if authenticated == 0 {
            return;
        }
        let any_data = jobs
            .iter()
            .zip(&self.ok)
            .any(|(job, ok)| *ok && job.len > TAG_SIZE);
        {
            let mut state = lock(&run.peer.state);
            if state.removed {
                shared.drops.count(Drop::UnknownIndex, authenticated as u64);
                return;
            }
            shared.roam(&run.peer, &mut state, run.source);
            if state.awaits(&run.session) {
                shared.forget_indices(state.confirm());
                let (tunnel, peer, index) = (shared.id, run.peer.id, run.session.local_index);
                shared.events.push(Event::SessionConfirmed {
                    tunnel,
                    peer,
                    index,
                });
                if !state.staged.is_empty() {
                    shared.mark_dirty(run.peer.id);
                }
            }
            if state.is_ageing_on_receive(now_ns) {
                shared.ask(&run.peer, &mut state, Need::Ageing);
            }
            state.timers.any_authenticated_received(now_ns);
            state.timers.any_traversal(now_ns);
            if any_data {
                state.timers.data_received(now_ns);
            }
            shared.arm(&run.peer, &mut state);
        }
        let counters = &run.peer.counters;
        counters.last_receive_ns.store(now_ns, Ordering::Relaxed);
        let mut bytes = 0;
        let mut packets = 0;
        let tables = read(&shared.tables);
        // Neighbours mostly share their source: one lookup serves them.
        let mut last_source: Option<IpAddr> = None;
        for (job, _) in jobs.iter().zip(&self.ok).filter(|(_, ok)| **ok) {
            let (start, plain) = (job.start, job.len - TAG_SIZE);
            if plain > 0 {
                let packet = &mut slab[start..start + plain];
                let Ok(total) = ip::total_len(packet) else {
                    shared.drops.count(Drop::InnerMalformed, 1);
                    continue;
                };
                let source = ip::source(packet);
                if source.is_none() || source != last_source {
                    if source.and_then(|source| tables.allowed.lookup(source)) != Some(run.peer.id)
                    {
                        shared.drops.count(Drop::SourceNotAllowed, 1);
                        last_source = None;
                        continue;
                    }
                    last_source = source;
                }
                // A CE mark on a packet that cannot carry it is dropped by RFC 6040, and ignored by WireGuard in the kernel: so here.
                let _: EcnVerdict = ecn::decapsulate(run.tos, &mut packet[..total]);
                self.coalescer.push(slab, start, total);
                packets += 1;
            }
            bytes += (HEADER + job.len) as u64;
        }
        drop(tables);
        counters.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.rx_packets.fetch_add(packets, Ordering::Relaxed);
    }

    fn write_device(&mut self, now_ns: u64) {
        let (shared, device) = (&self.shared, &self.device);
        let failed = &mut self.device_failed;
        self.coalescer
            .flush(self.scratch.slab(), &mut |header, slab, ranges| {
                let pause = &mut self.coalesce_again_ns;
                let (lost, error) = write_packet(device, header, slab, ranges, pause, now_ns);
                shared.drops.count(Drop::DeviceWrite, lost);
                if let Some(error) = error.filter(is_device_gone) {
                    *failed = Some(error);
                }
            });
        let refused = now_ns < self.coalesce_again_ns;
        shared.coalesce_refused.store(refused, Ordering::Relaxed);
    }

    /// Type 1 to 3: lengths and MAC1 and load at the gate, the index here.
    fn handshake(
        &mut self,
        kind: u32,
        message: &[u8; MAX_MESSAGE],
        len: usize,
        source: Source,
        now_ns: u64,
    ) {
        let shared = &self.shared;
        if !shared.has_private_key.load(Ordering::Relaxed) {
            shared.drops.count(Drop::NoPrivateKey, 1);
            return;
        }
        if kind != 1 {
            // Response: receiver index at 8; cookie reply: at 4. Short messages fail at the gate.
            let index = u32_at(message, if kind == 2 { 8 } else { 4 });
            let indices = read(&shared.indices);
            let known = match indices.get(&index) {
                Some(entry) => kind == 3 || entry.session.is_none(),
                None => false,
            };
            drop(indices);
            if !known {
                shared.drops.count(Drop::UnknownIndex, 1);
                return;
            }
        }
        let pending = shared.events.pending();
        let verdict = lock(&shared.gate).check(&message[..len], &source.from, pending, now_ns);
        match verdict {
            Verdict::Accept if pending < MAX_QUEUED_HANDSHAKES => {
                shared.events.push(Event::Handshake {
                    tunnel: shared.id,
                    message: *message,
                    len,
                    source,
                });
            }
            Verdict::Accept => shared.drops.count(Drop::Overload, 1),
            Verdict::Cookie(reply) => {
                shared.drops.count(Drop::CookieAsked, 1);
                self.cookies.extend_from_slice(&reply);
                self.cookies_to.push(source);
            }
            Verdict::Drop(reason) => shared.drops.count(drop_of(reason), 1),
        }
    }

    /// Cookie replies leave from the address they were asked at, without ECN or DSCP.
    fn answer_cookies(&mut self, socket: &Udp) {
        if self.cookies_to.is_empty() {
            return;
        }
        let pieces: Vec<Range<usize>> = (0..self.cookies_to.len())
            .map(|at| at * COOKIE_REPLY..(at + 1) * COOKIE_REPLY)
            .collect();
        let messages: Vec<Outgoing> = self
            .cookies_to
            .iter()
            .enumerate()
            .map(|(at, source)| Outgoing {
                to: source.from,
                source: source.to,
                tos: 0,
                ttl: 0,
                segment: 0,
                bytes: COOKIE_REPLY,
                pieces: at..at + 1,
            })
            .collect();
        let mut rest = &messages[..];
        while !rest.is_empty() {
            // One that cannot be sent (its sender is unreachable) is skipped; the others go.
            let sent = match socket.send_many(&self.cookies, &pieces, rest, &mut self.send_scratch)
            {
                Ok(sent) => sent,
                // The send buffer is full: nothing here waits, and who asked will ask again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => 1,
            };
            rest = &rest[sent.clamp(1, rest.len())..];
        }
        self.cookies.clear();
        self.cookies_to.clear();
    }
}

fn drop_of(reason: Reason) -> Drop {
    match reason {
        Reason::BadLength => Drop::BadLength,
        Reason::BadMac1 => Drop::BadMac1,
        Reason::NoKey => Drop::NoPrivateKey,
        Reason::RateLimited => Drop::RateLimited,
        Reason::Overload => Drop::Overload,
    }
}

/// One packet to the device; coalesced packets that the kernel refuses (6.6.44 did) are cut again, and written singly for a while.
///
/// Returns how many packets were lost, and the last error.
pub(crate) fn write_packet(
    device: &Tun,
    header: &VirtioNetHdr,
    slab: &[u8],
    ranges: &[Range<usize>],
    coalesce_again_ns: &mut u64,
    now_ns: u64,
) -> (u64, Option<io::Error>) {
    let vnet = header.to_bytes();
    let vnet = if device.vnet_hdr { &vnet[..] } else { &[] };
    let coalesced = header.gso_type != GSO_NONE;
    if !coalesced || now_ns >= *coalesce_again_ns {
        let mut slices = [io::IoSlice::new(&[]); 1 + MAX_RANGES];
        slices[0] = io::IoSlice::new(vnet);
        for (slice, range) in slices[1..].iter_mut().zip(ranges) {
            *slice = io::IoSlice::new(&slab[range.clone()]);
        }
        match device.write(&slices[..=ranges.len()]) {
            Ok(_) => return (0, None),
            Err(error) if coalesced && error.raw_os_error() == Some(libc::EINVAL) => {
                *coalesce_again_ns = now_ns + COALESCE_PAUSE_NS;
            }
            // Each range is, or brings the payload of, one packet.
            Err(error) => return (ranges.len() as u64, Some(error)),
        }
    }
    let whole: Vec<u8> = ranges
        .iter()
        .flat_map(|range| &slab[range.clone()])
        .copied()
        .collect();
    let mut pieces = Singles(Vec::new());
    if split(header, &whole, &mut pieces).is_err() {
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        return (ranges.len() as u64, Some(error));
    }
    let plain = VirtioNetHdr::default().to_bytes();
    let (mut lost, mut last) = (0, None);
    for piece in &pieces.0 {
        let slices = [
            io::IoSlice::new(&plain[..vnet.len()]),
            io::IoSlice::new(piece),
        ];
        if let Err(error) = device.write(&slices) {
            lost += 1;
            last = Some(error);
        }
    }
    (lost, last)
}

struct Singles(Vec<Vec<u8>>);

impl SegmentSink for Singles {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.push(vec![0; len]);
        self.0.last_mut().map(Vec::as_mut_slice)
    }
}

/// The caller has checked that the bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
