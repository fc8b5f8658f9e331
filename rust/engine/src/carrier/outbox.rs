//! Finished packets on their way to the sockets: those of all tunnels of one underlay in as few system calls as their sizes allow.
//!
//! Nothing is lost without being counted for its tunnel: what the kernel refuses segmented is sent again singly; what is too large for the
//! device and may be fragmented is cut here (the kernel cuts no packet that brings its own header); what may not be is told as a path error;
//! a full send buffer is waited for as long as something leaves it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use ginnel_esp::outer::Df;
use ginnel_esp::sa::Mode;
use ginnel_gre::outer::Fields;
use ginnel_gre::oversize::fragment_ipv4;

use super::drops::PlainDrop;
use super::plain::{Plain, Plan};
use super::protect::Protect;
use super::slab::Placed;
use super::Shared;
use crate::event::PathErrorKind;
use crate::sys::clock::boottime_ns;
use crate::sys::raw::{RawOutgoing, RawSend, RawSendScratch};
use crate::sys::udp::{Outgoing, SendScratch, Udp, MAX_PIECES, MAX_SEGMENTED_BYTES, MAX_SEGMENTS};

/// As for WireGuard: how long a full send buffer is waited for while nothing of it drains.
const SEND_PATIENCE_NS: u64 = 200_000_000;
/// How often a UDP message is tried before the error is taken for its own.
const SEND_TRIES: u32 = 6;
/// Messages of one sendmmsg: as many as a turn mostly has.
const MESSAGES_AT_ONCE: usize = 128;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
/// IPv6's protocol number of it.
const FRAGMENT: u8 = 44;

/// Who pays for a packet.
struct Owner {
    tunnel: Arc<Plain>,
    plan: Arc<Plan>,
}

/// What a message counts for.
#[derive(Clone, Copy, Debug)]
struct Account {
    owner: usize,
    packets: u64,
    /// Of the inner side.
    bytes: u64,
}

/// What leaves by one raw socket.
#[derive(Default)]
struct RawBatch {
    socket: Option<Arc<RawSend>>,
    messages: Vec<RawOutgoing>,
    accounts: Vec<Account>,
}

/// What leaves by one UDP socket, with DF or without.
#[derive(Default)]
struct UdpBatch {
    socket: Option<Arc<Udp>>,
    dont_fragment: bool,
    pieces: Vec<Range<usize>>,
    messages: Vec<Outgoing>,
    accounts: Vec<Account>,
    /// Whether the last message may take another datagram.
    open: bool,
}

/// One encapsulated packet in the slab.
pub(crate) struct Packet {
    pub at: Placed,
    /// Of the inner packet.
    pub inner_len: usize,
    /// 0 for the later fragments of a packet.
    pub packets: u64,
}

pub(crate) struct Outbox {
    shared: Arc<Shared>,
    owners: Vec<Owner>,
    raw: Vec<RawBatch>,
    raw_used: usize,
    udp: Vec<UdpBatch>,
    udp_used: usize,
    raw_scratch: RawSendScratch,
    udp_scratch: SendScratch,
    /// Since when a send buffer is full and nothing leaves.
    stuck_since_ns: Option<u64>,
    /// IPv6's identification of the last packet that was cut here.
    cut_id: u32,
}

impl Outbox {
    /// *`cut_id`*: any number; others that cut for the same ends begin elsewhere.
    pub fn new(shared: Arc<Shared>, cut_id: u32) -> Self {
        Self {
            shared,
            owners: Vec::new(),
            raw: Vec::new(),
            raw_used: 0,
            udp: Vec::new(),
            udp_used: 0,
            raw_scratch: RawSendScratch::default(),
            udp_scratch: SendScratch::default(),
            stuck_since_ns: None,
            cut_id,
        }
    }

    /// Lets go of everything of the last turn; the vectors stay.
    pub fn clear(&mut self) {
        for batch in &mut self.raw[..self.raw_used] {
            batch.socket = None;
            batch.messages.clear();
            batch.accounts.clear();
        }
        for batch in &mut self.udp[..self.udp_used] {
            batch.socket = None;
            batch.pieces.clear();
            batch.messages.clear();
            batch.accounts.clear();
            batch.open = false;
        }
        self.raw_used = 0;
        self.udp_used = 0;
        self.owners.clear();
    }

    /// Who the packets queued with this number belong to.
    pub fn owner(&mut self, tunnel: &Arc<Plain>, plan: &Arc<Plan>) -> usize {
        self.owners.push(Owner {
            tunnel: tunnel.clone(),
            plan: plan.clone(),
        });
        self.owners.len() - 1
    }

    pub fn queue_raw(
        &mut self,
        owner: usize,
        socket: &Arc<RawSend>,
        to: SocketAddr,
        source: IpAddr,
        packet: &Packet,
    ) {
        let is = |batch: &RawBatch| {
            batch
                .socket
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, socket))
        };
        let found = self.raw[..self.raw_used].iter().rposition(is);
        let at = found.unwrap_or_else(|| {
            if self.raw_used == self.raw.len() {
                self.raw.push(RawBatch::default());
            }
            self.raw_used += 1;
            self.raw[self.raw_used - 1].socket = Some(socket.clone());
            self.raw_used - 1
        });
        let batch = &mut self.raw[at];
        batch.messages.push(RawOutgoing {
            to,
            source,
            start: packet.at.start,
            len: packet.at.len,
        });
        batch.accounts.push(Account {
            owner,
            packets: packet.packets,
            bytes: packet.inner_len as u64,
        });
    }

    /// Equal neighbours become one message; a shorter packet ends it.
    pub fn queue_udp(
        &mut self,
        owner: usize,
        socket: &Arc<Udp>,
        to: SocketAddr,
        source: Option<IpAddr>,
        fields: Fields,
        packet: &Packet,
    ) {
        let is = |batch: &UdpBatch| {
            batch
                .socket
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, socket))
        };
        let found = self.udp[..self.udp_used].iter().rposition(is);
        // Only the socket's last batch: in an earlier one, if that were of the other kind, this packet would overtake others.
        let found = found.filter(|at| self.udp[*at].dont_fragment == fields.df);
        let at = found.unwrap_or_else(|| {
            if self.udp_used == self.udp.len() {
                self.udp.push(UdpBatch::default());
            }
            self.udp_used += 1;
            let batch = &mut self.udp[self.udp_used - 1];
            batch.socket = Some(socket.clone());
            batch.dont_fragment = fields.df;
            self.udp_used - 1
        });
        let batch = &mut self.udp[at];
        let range = packet.at.start..packet.at.start + packet.at.len;
        let account = Account {
            owner,
            packets: packet.packets,
            bytes: packet.inner_len as u64,
        };
        if batch.open {
            if let (Some(last), Some(counted)) =
                (batch.messages.last_mut(), batch.accounts.last_mut())
            {
                let datagrams = last.bytes.div_ceil(last.segment.max(1));
                let adjoins = batch
                    .pieces
                    .last()
                    .is_some_and(|piece| piece.end == range.start);
                let joins = counted.owner == owner
                    && last.to == to
                    && last.source == source
                    && last.tos == fields.tos
                    && last.ttl == fields.ttl
                    && packet.at.len <= last.segment
                    && datagrams < MAX_SEGMENTS
                    && last.bytes + packet.at.len <= MAX_SEGMENTED_BYTES
                    && (adjoins || last.pieces.len() < MAX_PIECES)
                    && socket.may_segment(last.segment);
                if joins {
                    match batch.pieces.last_mut() {
                        Some(piece) if adjoins => piece.end = range.end,
                        _ => {
                            batch.pieces.push(range);
                            last.pieces.end += 1;
                        }
                    }
                    last.bytes += packet.at.len;
                    counted.packets += account.packets;
                    counted.bytes += account.bytes;
                    batch.open = packet.at.len == last.segment;
                    return;
                }
            }
        }
        let first = batch.pieces.len();
        batch.pieces.push(range);
        batch.messages.push(Outgoing {
            to,
            source,
            tos: fields.tos,
            ttl: fields.ttl,
            segment: packet.at.len,
            bytes: packet.at.len,
            pieces: first..first + 1,
        });
        batch.accounts.push(account);
        batch.open = true;
    }

    /// Sends what was queued; *slab* is where it lies.
    pub fn send(&mut self, slab: &[u8], now_ns: u64) {
        for at in 0..self.raw_used {
            let mut batch = std::mem::take(&mut self.raw[at]);
            self.send_raw(slab, &batch, now_ns);
            batch.socket = None;
            self.raw[at] = batch;
        }
        for at in 0..self.udp_used {
            let mut batch = std::mem::take(&mut self.udp[at]);
            for message in &mut batch.messages {
                if message.bytes == message.segment {
                    message.segment = 0;
                }
            }
            self.send_udp(slab, &batch, now_ns);
            batch.socket = None;
            self.udp[at] = batch;
        }
    }

    fn send_raw(&mut self, slab: &[u8], batch: &RawBatch, now_ns: u64) {
        let Some(socket) = &batch.socket else { return };
        let mut at = 0;
        while at < batch.messages.len() {
            let waiting = at_once(&batch.messages[at..]);
            match socket.send_many(slab, waiting, &mut self.raw_scratch) {
                Ok(sent) => {
                    self.stuck_since_ns = None;
                    let sent = sent.max(1);
                    self.count(&batch.accounts[at..at + sent], now_ns);
                    at += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.may_wait_for_room() {
                        socket.wait_for_room();
                    } else {
                        self.lose(&batch.accounts[at..]);
                        break;
                    }
                }
                Err(error) => {
                    let message = batch.messages[at];
                    self.refused_raw(slab, socket, message, batch.accounts[at], &error, now_ns);
                    at += 1;
                }
            }
        }
    }

    /// The kernel refused a packet: too large for the device, or there is no way.
    fn refused_raw(
        &mut self,
        slab: &[u8],
        socket: &RawSend,
        message: RawOutgoing,
        account: Account,
        error: &io::Error,
        now_ns: u64,
    ) {
        let packet = &slab[message.start..message.start + message.len];
        let owner = &self.owners[account.owner];
        if error.raw_os_error() != Some(libc::EMSGSIZE) {
            if !is_full(error) {
                // The next packet asks for the source address anew.
                owner.tunnel.forget_route();
            }
            owner
                .tunnel
                .drops
                .count(PlainDrop::SendFailed, account.packets);
            return;
        }
        let route = owner.tunnel.route(&owner.plan, message.to);
        let mtu = route.map_or(0, |route| route.mtu);
        if has_df(packet, owner) {
            self.too_big(account, message.source, mtu, now_ns);
            return;
        }
        let mut cut = Vec::new();
        let mut fragments = Vec::new();
        self.cut_id = self.cut_id.wrapping_add(1);
        let id = self.cut_id;
        let done = fragment(packet, mtu, id, &mut |piece| {
            fragments.push(RawOutgoing {
                start: cut.len(),
                len: piece.len(),
                ..message
            });
            cut.extend_from_slice(piece);
        });
        let mut rest = &fragments[..];
        while done && !rest.is_empty() {
            match socket.send_many(&cut, rest, &mut self.raw_scratch) {
                Ok(sent) => rest = &rest[sent.clamp(1, rest.len())..],
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => {
                    if !self.may_wait_for_room() {
                        break;
                    }
                    socket.wait_for_room();
                }
                Err(_) => break,
            }
        }
        if done && rest.is_empty() {
            self.count(&[account], now_ns);
        } else {
            // The MTU may be another by now.
            self.owners[account.owner].tunnel.forget_route();
            self.lose(&[account]);
        }
    }

    fn send_udp(&mut self, slab: &[u8], batch: &UdpBatch, now_ns: u64) {
        let Some(socket) = &batch.socket else { return };
        let df = batch.dont_fragment;
        let mut at = 0;
        // A socket that is told ICMP errors is told each once more by its next send, which then sends nothing: that message is tried again.
        let mut tries = SEND_TRIES;
        while at < batch.messages.len() {
            let waiting = at_once(&batch.messages[at..]);
            match socket.send_many_with(df, slab, &batch.pieces, waiting, &mut self.udp_scratch) {
                Ok(sent) => {
                    self.stuck_since_ns = None;
                    let sent = sent.max(1);
                    self.count(&batch.accounts[at..at + sent], now_ns);
                    at += sent;
                    tries = SEND_TRIES;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.may_wait_for_room() {
                        socket.wait_for_room();
                    } else {
                        self.lose(&batch.accounts[at..]);
                        break;
                    }
                }
                Err(error) if tries > 1 && !is_full(&error) => tries -= 1,
                Err(error) => {
                    self.refused_udp(slab, batch, socket, at, &error, now_ns);
                    at += 1;
                    tries = SEND_TRIES;
                }
            }
        }
    }

    /// The kernel refused a message: singly it may take it; else it is lost and counted.
    fn refused_udp(
        &mut self,
        slab: &[u8],
        batch: &UdpBatch,
        socket: &Udp,
        at: usize,
        error: &io::Error,
        now_ns: u64,
    ) {
        let message = &batch.messages[at];
        let account = batch.accounts[at];
        let segmented = message.segment != 0;
        if segmented
            && matches!(
                error.raw_os_error(),
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
            )
        {
            socket.refuse_segments(message.segment, error);
        } else {
            self.refused_datagram(account, message, error, now_ns);
            return;
        }
        let mut singles = Vec::new();
        let mut datagrams = Vec::new();
        for piece in &batch.pieces[message.pieces.clone()] {
            for from in piece.clone().step_by(message.segment) {
                let datagram = from..(from + message.segment).min(piece.end);
                singles.push(Outgoing {
                    segment: 0,
                    bytes: datagram.len(),
                    pieces: datagrams.len()..datagrams.len() + 1,
                    ..message.clone()
                });
                datagrams.push(datagram);
            }
        }
        let count = singles.len() as u64;
        let share = Account {
            packets: 1,
            bytes: account.bytes / count.max(1),
            ..account
        };
        let mut rest = &singles[..];
        while let Some(first) = rest.first() {
            let scratch = &mut self.udp_scratch;
            match socket.send_many_with(batch.dont_fragment, slab, &datagrams, rest, scratch) {
                Ok(sent) => {
                    let sent = sent.clamp(1, rest.len());
                    for _ in 0..sent {
                        self.count(&[share], now_ns);
                    }
                    rest = &rest[sent..];
                }
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.refused_datagram(share, first, &error, now_ns);
                    rest = &rest[1..];
                }
            }
        }
    }

    fn refused_datagram(
        &mut self,
        account: Account,
        message: &Outgoing,
        error: &io::Error,
        now_ns: u64,
    ) {
        let owner = &self.owners[account.owner];
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            let route = owner.tunnel.route(&owner.plan, message.to);
            let (source, mtu) =
                route.map_or((owner.plan.any(), 0), |route| (route.source, route.mtu));
            self.too_big(account, source, mtu, now_ns);
        } else {
            if !is_full(error) {
                owner.tunnel.forget_route();
            }
            self.lose(&[account]);
        }
    }

    /// The device of the underlay takes less: told as a router's word would be, with our own address as its origin.
    fn too_big(&self, account: Account, origin: IpAddr, mtu: usize, now_ns: u64) {
        let tunnel = &self.owners[account.owner].tunnel;
        tunnel.drops.count(PlainDrop::TooBig, account.packets);
        // It may be another route by now.
        tunnel.forget_route();
        tunnel.tell_path_error(
            &self.shared.events,
            PathErrorKind::TooBig,
            0,
            u32::try_from(mtu).unwrap_or(0),
            Some(origin),
            now_ns,
        );
    }

    fn count(&self, accounts: &[Account], now_ns: u64) {
        let mut rest = accounts;
        while let Some(first) = rest.first() {
            let run = rest
                .iter()
                .take_while(|account| account.owner == first.owner)
                .count();
            let (packets, bytes) = rest[..run]
                .iter()
                .fold((0, 0), |(packets, bytes), account| {
                    (packets + account.packets, bytes + account.bytes)
                });
            let counters = &self.owners[first.owner].tunnel.counters;
            counters.tx_packets.fetch_add(packets, Ordering::Relaxed);
            counters.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
            counters.last_send_ns.store(now_ns, Ordering::Relaxed);
            rest = &rest[run..];
        }
    }

    fn lose(&self, accounts: &[Account]) {
        for account in accounts {
            self.owners[account.owner]
                .tunnel
                .drops
                .count(PlainDrop::SendFailed, account.packets);
        }
    }

    /// Whether a full send buffer is still worth waiting for; not when nothing has left any for long.
    fn may_wait_for_room(&mut self) -> bool {
        let now_ns = boottime_ns();
        let since_ns = *self.stuck_since_ns.get_or_insert(now_ns);
        now_ns.saturating_sub(since_ns) < SEND_PATIENCE_NS
            && !self.shared.stop.load(Ordering::Acquire)
    }
}

/// What one system call is given: where each message is refused by itself, describing all that wait anew for each would cost the square.
fn at_once<T>(waiting: &[T]) -> &[T] {
    &waiting[..waiting.len().min(MESSAGES_AT_ONCE)]
}

/// A queue behind the route was full and dropped the packet: no reason to try it again, or to doubt the route.
fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Whether a delivery packet must not be cut. IPv6 has no bit for it: there the SA's rule says so, or the tunnel's option. (What is around a
/// protected packet may be of another family than what is inside.)
fn has_df(packet: &[u8], owner: &Owner) -> bool {
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        return packet.get(6).is_some_and(|flags| flags & 0x40 != 0);
    }
    let sending = owner.tunnel.protect.as_ref().and_then(Protect::sending);
    match sending.filter(|sending| sending.sa.mode() == Mode::Tunnel) {
        Some(sending) => sending.rules.df != Df::Clear,
        None => owner.plan.options.pmtudisc,
    }
}

/// Cuts a delivery packet into fragments of at most *mtu* bytes; *id* is IPv6's identification. False when it cannot be cut.
pub(crate) fn fragment(packet: &[u8], mtu: usize, id: u32, emit: &mut dyn FnMut(&[u8])) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => fragment_ipv4(packet, mtu, emit),
        Some(6) => fragment_ipv6(packet, mtu, id, emit),
        _ => false,
    }
}

/// RFC 8200 4.5. Everything behind the fixed header is fragmentable: we write no hop-by-hop or routing headers.
fn fragment_ipv6(packet: &[u8], mtu: usize, id: u32, emit: &mut dyn FnMut(&[u8])) -> bool {
    let Some((header, body)) = packet.split_at_checked(IPV6_HEADER) else {
        return false;
    };
    let step = mtu.saturating_sub(IPV6_HEADER + FRAGMENT_HEADER) / 8 * 8;
    if step == 0 {
        return false;
    }
    let mut fragment = Vec::with_capacity(mtu);
    for (index, piece) in body.chunks(step).enumerate() {
        let offset = index * step;
        let more = offset + piece.len() < body.len();
        fragment.clear();
        fragment.extend_from_slice(header);
        fragment[4..6].copy_from_slice(&((FRAGMENT_HEADER + piece.len()) as u16).to_be_bytes());
        fragment[6] = FRAGMENT;
        fragment.extend([header[6], 0]);
        fragment.extend((offset as u16 | u16::from(more)).to_be_bytes());
        fragment.extend(id.to_be_bytes());
        fragment.extend_from_slice(piece);
        emit(&fragment);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 47, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet.extend((0..len).map(|at| at as u8));
        packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        packet
    }

    #[test]
    fn ipv6_fragments_put_together_are_the_packet() {
        for (len, mtu) in [
            (1, 1280),
            (1232, 1280),
            (1233, 1280),
            (3000, 1280),
            (65_000, 1500),
        ] {
            let whole = packet(len);
            let mut body = Vec::new();
            let mut last = false;
            assert!(fragment(&whole, mtu, 0x0102_0304, &mut |piece| {
                assert!(piece.len() <= mtu && !last);
                assert_eq!(
                    usize::from(u16::from_be_bytes([piece[4], piece[5]])),
                    piece.len() - 40
                );
                assert_eq!(
                    (piece[6], piece[40], &piece[44..48]),
                    (44, 47, &[1, 2, 3, 4][..])
                );
                assert_eq!(piece[8..40], whole[8..40]);
                let field = u16::from_be_bytes([piece[42], piece[43]]);
                assert_eq!(usize::from(field & !7), body.len());
                last = field & 1 == 0;
                body.extend_from_slice(&piece[48..]);
            }));
            assert!(last);
            assert_eq!(body, whole[40..]);
        }
    }

    #[test]
    fn what_has_no_room_for_a_fragment_is_not_cut() {
        for mtu in [0, 40, 55] {
            assert!(!fragment(&packet(100), mtu, 1, &mut |_| {}));
        }
        assert!(!fragment(&[], 1500, 1, &mut |_| {}));
        assert!(!fragment(&packet(0)[..39], 1500, 1, &mut |_| {}));
    }
}
