//! Sealed packets on their way to the sockets: cut into as few messages as their sizes allow, sent, and counted for their peers.
//!
//! Nothing is lost without being counted: what the kernel refuses segmented is sent again singly, what it refuses for its source address is sent
//! without it, a full send buffer is waited for as long as something leaves it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::drops::Drop;
use crate::lock;
use crate::peer::Peer;
use crate::shared::{is_source_error, Shared};
use crate::slab::Placed;
use crate::sys::clock::boottime_ns;
use crate::sys::udp::{
    Outgoing, Pair, SendScratch, Udp, MAX_PIECES, MAX_SEGMENTED_BYTES, MAX_SEGMENTS,
};

/// How long a full send buffer is waited for while nothing of it drains: longer than 64 KiB take at 10 Mb/s, short enough for the timers.
/// From then on what finds no room is dropped at once, until something leaves again.
const SEND_PATIENCE_NS: u64 = 200_000_000;

/// Who pays for a message, for the counters.
struct Owner {
    peer: Arc<Peer>,
    packets: u64,
}

pub(crate) struct Outbox {
    shared: Arc<Shared>,
    /// Ranges of the slab, which messages gather.
    pieces: Vec<Range<usize>>,
    /// By family: IPv4, IPv6.
    outgoing: [Vec<Outgoing>; 2],
    owners: [Vec<Owner>; 2],
    scratch: SendScratch,
    /// Since when the send buffer is full and nothing leaves.
    stuck_since_ns: Option<u64>,
}

impl Outbox {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            pieces: Vec::new(),
            outgoing: [Vec::new(), Vec::new()],
            owners: [Vec::new(), Vec::new()],
            scratch: SendScratch::default(),
            stuck_since_ns: None,
        }
    }

    pub fn clear(&mut self) {
        self.pieces.clear();
        for family in 0..2 {
            self.outgoing[family].clear();
            self.owners[family].clear();
        }
    }

    /// Cuts one peer's sealed packets into messages: runs of one size and one ECN, a shorter packet ends its run.
    pub fn queue(
        &mut self,
        peer: &Arc<Peer>,
        packets: &[Placed],
        socket: &Udp,
        to: SocketAddr,
        source: Option<IpAddr>,
    ) {
        let family = usize::from(socket.is_v6());
        let mut at = 0;
        while at < packets.len() {
            let first = packets[at];
            let (_, segment) = first.message();
            let may_segment = socket.may_segment(segment);
            let first_piece = self.pieces.len();
            let (mut bytes, mut joined) = (0, 0);
            while let Some(&placed) = packets.get(at) {
                let (from, size) = placed.message();
                let joins = joined == 0
                    || (may_segment
                        && joined < MAX_SEGMENTS
                        && size <= segment
                        && bytes + size <= MAX_SEGMENTED_BYTES
                        && placed.ecn == first.ecn);
                if !joins {
                    break;
                }
                let count = self.pieces.len() - first_piece;
                match self.pieces[first_piece..].last_mut() {
                    Some(last) if last.end == from => last.end = from + size,
                    _ if count == MAX_PIECES => break,
                    _ => self.pieces.push(from..from + size),
                }
                bytes += size;
                joined += 1;
                at += 1;
                if size < segment {
                    break;
                }
            }
            self.outgoing[family].push(Outgoing {
                to,
                source,
                tos: first.ecn,
                ttl: 0,
                segment: if joined > 1 { segment } else { 0 },
                bytes,
                pieces: first_piece..self.pieces.len(),
            });
            self.owners[family].push(Owner {
                peer: peer.clone(),
                packets: joined as u64,
            });
        }
    }

    /// Sends what was queued; *slab* is where it lies.
    pub fn send(&mut self, slab: &[u8], pair: Option<&Pair>) {
        let Some(pair) = pair else { return };
        let generation = self.shared.sockets_generation.load(Ordering::Acquire);
        for (family, socket) in [pair.v4.as_ref(), pair.v6.as_ref()].into_iter().enumerate() {
            let Some(socket) = socket else { continue };
            let mut at = 0;
            while at < self.outgoing[family].len() {
                let waiting = &self.outgoing[family][at..];
                match socket.send_many(slab, &self.pieces, waiting, &mut self.scratch) {
                    Ok(sent) => {
                        self.stuck_since_ns = None;
                        for (message, owner) in
                            waiting.iter().zip(&self.owners[family][at..]).take(sent)
                        {
                            owner
                                .peer
                                .counters
                                .tx_bytes
                                .fetch_add(message.bytes as u64, Ordering::Relaxed);
                            owner
                                .peer
                                .counters
                                .tx_packets
                                .fetch_add(owner.packets, Ordering::Relaxed);
                        }
                        at += sent.max(1);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.may_wait_for_room(generation) {
                            socket.wait_for_room();
                        } else {
                            let lost = self.owners[family][at..].iter().map(|owner| owner.packets);
                            self.shared.drops.count(Drop::SendFailed, lost.sum());
                            break;
                        }
                    }
                    Err(error) => {
                        self.refused(slab, socket, family, at, &error);
                        at += 1;
                    }
                }
            }
        }
    }

    /// Whether a full send buffer is still worth waiting for; not when the sockets are being replaced, or nothing has left them for long.
    fn may_wait_for_room(&mut self, generation: u64) -> bool {
        let now_ns = boottime_ns();
        let since_ns = *self.stuck_since_ns.get_or_insert(now_ns);
        now_ns.saturating_sub(since_ns) < SEND_PATIENCE_NS
            && self.shared.sockets_generation.load(Ordering::Acquire) == generation
            && !self.shared.stop.load(Ordering::Acquire)
    }

    /// The kernel refused a message: without segmentation, or without the sticky source, it may take it; else it is lost and counted.
    fn refused(&mut self, slab: &[u8], socket: &Udp, family: usize, at: usize, error: &io::Error) {
        let message = self.outgoing[family][at].clone();
        let peer = self.owners[family][at].peer.clone();
        let mut source = message.source;
        if source.is_some() && is_source_error(error) {
            source = None;
            lock(&peer.state).source = None;
        } else if message.segment != 0
            && matches!(
                error.raw_os_error(),
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
            )
        {
            socket.refuse_segments(message.segment, error);
        } else {
            self.shared
                .drops
                .count(Drop::SendFailed, self.owners[family][at].packets);
            return;
        }
        let size = if message.segment == 0 {
            message.bytes
        } else {
            message.segment
        };
        let mut singles = Vec::new();
        let mut datagrams = Vec::new();
        for piece in &self.pieces[message.pieces.clone()] {
            for from in piece.clone().step_by(size) {
                let datagram = from..(from + size).min(piece.end);
                let pieces = datagrams.len()..datagrams.len() + 1;
                singles.push(Outgoing {
                    source,
                    segment: 0,
                    bytes: datagram.len(),
                    pieces,
                    ..message.clone()
                });
                datagrams.push(datagram);
            }
        }
        let mut rest = &singles[..];
        while let Some(first) = rest.first() {
            match socket.send_many(slab, &datagrams, rest, &mut self.scratch) {
                Ok(sent) => {
                    let bytes: usize = rest[..sent].iter().map(|single| single.bytes).sum();
                    peer.counters
                        .tx_bytes
                        .fetch_add(bytes as u64, Ordering::Relaxed);
                    peer.counters
                        .tx_packets
                        .fetch_add(sent as u64, Ordering::Relaxed);
                    rest = &rest[sent.max(1)..];
                }
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    debug_assert!(first.bytes > 0);
                    self.shared.drops.count(Drop::SendFailed, 1);
                    rest = &rest[1..];
                }
            }
        }
    }
}
