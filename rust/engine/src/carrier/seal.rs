//! Protection of what leaves: the encapsulated packets of one visit, sealed as one batch under the tunnel's SA, then queued.
//!
//! `transmit` decides what leaves and puts it into the slab with room around it; here it gets the headers that are protected with it, waits for
//! the end of the visit, and gets ESP and the delivery header. Fields of the delivery header: those of the encapsulation in transport mode,
//! where there is no other; in tunnel mode by the SA's rules.
//!
//! A packet that no selector lets through, or for which no number is left, goes no further: nothing here can send what was not sealed.

use std::net::IpAddr;
use std::sync::Arc;

use ginnel_esp::layout;
use ginnel_esp::outbound;
use ginnel_esp::outer;
use ginnel_esp::sa::{Mode, Scratch};
use ginnel_gre::demux::{GRE, IPV4_IN_IP, IPV6_IN_IP};
use ginnel_gre::header::{self, IPV6};
use ginnel_gre::options::Options;
use ginnel_gre::outer::Fields;
use ginnel_packet::ip;

use super::drops::PlainDrop;
use super::ike::Ports;
use super::outbox::{fragment, Outbox, Packet};
use super::plain::{Plain, Plan};
use super::protect::{tell_expiring, Protect, Sending, Shape};
use super::slab::{Placed, Room, Slab};
use super::Shared;

/// A tunnel's SA for one visit, and the sockets.
pub(super) struct Cover {
    pub sending: Arc<Sending>,
    pub shape: Shape,
    ports: Arc<Ports>,
    bare: bool,
}

impl Cover {
    /// None: there is no SA, or nothing to send by.
    pub fn take(shared: &Shared, protect: &Protect, plan: &Plan) -> Option<Self> {
        let sending = protect.sending()?;
        let ports = crate::read(&shared.ike).clone()?;
        let shape = sending.shape(plan, protect.bare);
        Some(Self {
            sending,
            shape,
            ports,
            bare: protect.bare,
        })
    }

    pub fn room(&self) -> Room {
        self.sending.room(&self.shape)
    }

    /// Bytes of the delivery packet around an inner one of this length.
    pub fn whole_of(&self, inner: usize) -> usize {
        let suite = self.sending.sa.suite();
        self.shape.outer + layout::sealed_len(suite, self.shape.inside + inner)
    }

    /// Whether *inner* is what this host sends to the peer outside: ESP, or IKE.
    pub fn is_own(&self, inner: &[u8]) -> bool {
        let path = self.sending.path;
        if ip::destination(inner) != Some(path.remote.ip()) || ip::source(inner) != Some(path.local)
        {
            return false;
        }
        let (protocol, at) = match inner.first().map(|first| first >> 4) {
            Some(4) => (inner.get(9), usize::from(inner[0] & 0x0f) * 4),
            Some(6) => (inner.get(6), 40),
            _ => return false,
        };
        let options = &self.ports.options;
        match protocol {
            Some(&outer::ESP) => true,
            Some(&ip::PROTO_UDP) => inner.get(at..at + 2).is_some_and(|port| {
                port == options.port.to_be_bytes() || port == options.natt_port.to_be_bytes()
            }),
            _ => false,
        }
    }
}

/// One encapsulated packet that waits for the end of the visit.
struct Waiting {
    placed: outbound::Placed,
    fields: Fields,
    inner_len: usize,
    /// 0 for what is ours and not the device's.
    packets: u64,
    /// The delivery packet may be at most so long, and is cut else; 0: it is not looked at.
    cut: usize,
}

/// What of a packet there is to know before it is sealed.
#[derive(Clone, Copy)]
pub(super) struct Outgoing {
    /// Of the inner packet, in the slab.
    pub placed: Placed,
    pub fields: Fields,
    /// GRE's protocol type.
    pub protocol: u16,
    pub sequence: u32,
    /// The delivery packet is cut if it is longer.
    pub cut: usize,
}

/// The batch of one visit.
#[derive(Default)]
pub(super) struct Sealer {
    waiting: Vec<Waiting>,
    batch: Vec<outbound::Placed>,
    scratch: Scratch,
}

impl Sealer {
    /// Puts the headers in front that are protected, and has the packet wait for `seal`. *id*: IPv4's, of the delivery header inside.
    pub fn add(
        &mut self,
        cover: &Cover,
        plan: &Plan,
        outgoing: Outgoing,
        id: u16,
        slab: &mut Slab,
    ) -> Result<(), PlainDrop> {
        let Outgoing {
            placed,
            mut fields,
            protocol,
            sequence,
            cut,
        } = outgoing;
        let shape = &cover.shape;
        let options = &plan.options;
        let start = placed.start - shape.inside;
        let payload = &mut slab.bytes[start..placed.start + placed.len];
        let next_header = match (cover.bare, shape.mode) {
            (true, _) => in_ip(protocol),
            (false, Mode::Transport) => {
                write_gre(options, protocol, sequence, payload);
                if options.carries_gre() {
                    GRE
                } else {
                    in_ip(protocol)
                }
            }
            (false, Mode::Tunnel) => {
                let (Some(local), Some(remote)) = (options.local, options.remote) else {
                    return Err(PlainDrop::NoRemote);
                };
                let written = ginnel_gre::outer::write(
                    options, local, remote, fields, id, protocol, sequence, payload,
                );
                if !written {
                    return Err(PlainDrop::Nested);
                }
                family_of(local)
            }
        };
        if shape.mode == Mode::Tunnel {
            // What may be cut may be cut whatever the rules say: it could not leave else.
            let free = cut != 0;
            fields = outer::fields(cover.sending.rules, payload);
            fields.df &= !free;
        }
        admit(cover, next_header, payload)?;
        self.wait(cover, start, payload.len(), next_header);
        if let Some(last) = self.waiting.last_mut() {
            last.fields = fields;
            last.inner_len = placed.len;
            last.packets = 1;
            last.cut = cut;
        }
        Ok(())
    }

    /// The same for an IP packet that is encapsulated already (a keepalive that goes back), which it places.
    ///
    /// Only what is protected of it: the room behind depends on how long that is, to the byte.
    pub fn add_finished(
        &mut self,
        cover: &Cover,
        packet: &[u8],
        fields: Fields,
        slab: &mut Slab,
    ) -> Result<(), PlainDrop> {
        let at = ip::layout(packet).ok_or(PlainDrop::Malformed)?;
        let (next_header, skip) = match cover.shape.mode {
            Mode::Tunnel => (ip::source(packet).map_or(IPV4_IN_IP, family_of), 0),
            // ESP takes the place of its delivery header.
            Mode::Transport => (at.protocol, at.transport),
        };
        let payload = packet.get(skip..).unwrap_or_default();
        admit(cover, next_header, payload)?;
        let placed = slab.placed.len();
        if !slab.copy(cover.sending.room_finished(&cover.shape), payload) {
            return Err(PlainDrop::SendFailed);
        }
        let start = slab.placed[placed].start;
        self.wait(cover, start, payload.len(), next_header);
        if let Some(last) = self.waiting.last_mut() {
            last.fields = fields;
        }
        Ok(())
    }

    fn wait(&mut self, cover: &Cover, payload_at: usize, payload: usize, next_header: u8) {
        self.waiting.push(Waiting {
            placed: outbound::Placed {
                start: payload_at - cover.shape.esp,
                payload,
                next_header,
            },
            fields: Fields {
                ttl: ginnel_gre::outer::DEFAULT_TTL,
                tos: 0,
                df: false,
                flow_label: 0,
            },
            inner_len: 0,
            packets: 0,
            cut: 0,
        });
    }

    /// Seals what waits as one batch and queues it. *id* is drawn from for each delivery header.
    #[allow(clippy::too_many_arguments)] // what a visit has, its parts borrowed one by one
    pub fn seal(
        &mut self,
        shared: &Shared,
        tunnel: &Plain,
        cover: &Cover,
        owner: usize,
        outbox: &mut Outbox,
        slab: &mut Slab,
        id: &mut u32,
        now_ns: u64,
    ) {
        if self.waiting.is_empty() {
            return;
        }
        self.batch.clear();
        self.batch
            .extend(self.waiting.iter().map(|waiting| waiting.placed));
        let sa = &cover.sending.sa;
        let bytes = &mut slab.bytes;
        let sealed = sa.seal(bytes, &self.batch, now_ns, &mut self.scratch);
        tell_expiring(tunnel.id, sa.spi(), false, sealed.expiring, &shared.events);
        for waiting in &self.waiting[..sealed.count] {
            *id = id.wrapping_add(1);
            if *id as u16 == 0 {
                *id = id.wrapping_add(1);
            }
            queue(tunnel, cover, owner, outbox, slab, *id, waiting);
        }
        let unsealed: u64 = self.waiting[sealed.count..]
            .iter()
            .map(|waiting| waiting.packets)
            .sum();
        tunnel.drops.count(PlainDrop::SaExhausted, unsealed);
        self.waiting.clear();
    }
}

/// Whether the SA was negotiated for it.
fn admit(cover: &Cover, next_header: u8, payload: &[u8]) -> Result<(), PlainDrop> {
    let selectors = cover.sending.sa.selectors();
    let path = &cover.sending.path;
    let admitted = match cover.shape.mode {
        Mode::Transport => {
            let ends = (!path.in_udp()).then_some((path.local, path.remote.ip()));
            selectors.admit_payload(ends, next_header, payload)
        }
        Mode::Tunnel => selectors.admit_packet(payload),
    };
    if admitted {
        Ok(())
    } else {
        Err(PlainDrop::NoSelector)
    }
}

/// Delivery header, if it is ours to write, and off to the outbox.
fn queue(
    tunnel: &Plain,
    cover: &Cover,
    owner: usize,
    outbox: &mut Outbox,
    slab: &mut Slab,
    id: u32,
    waiting: &Waiting,
) {
    let Waiting { placed, fields, .. } = waiting;
    let path = cover.sending.path;
    let lost = |reason| tunnel.drops.count(reason, waiting.packets);
    let Some(family) = cover.ports.family(path.local.is_ipv6()) else {
        return lost(PlainDrop::NoRemote);
    };
    let sealed = layout::sealed_len(cover.sending.sa.suite(), placed.payload);
    let at = Placed {
        start: placed.start - cover.shape.outer,
        len: cover.shape.outer + sealed,
    };
    let mut packet = Packet {
        at,
        inner_len: waiting.inner_len,
        packets: waiting.packets,
    };
    if path.in_udp() {
        let (socket, local) = (&family.natt, Some(path.local));
        return outbox.queue_udp(owner, socket, path.remote, local, *fields, &packet);
    }
    let whole = &mut slab.bytes[at.start..at.start + at.len];
    if !outer::write(path.local, path.remote.ip(), *fields, id as u16, whole) {
        return lost(PlainDrop::TooBig);
    }
    if waiting.cut == 0 || at.len <= waiting.cut {
        return outbox.queue_raw(owner, &family.raw, path.remote, path.local, &packet);
    }
    let whole = whole.to_vec();
    let first = slab.placed.len();
    let mut fits = true;
    let cut = fragment(&whole, waiting.cut, id, &mut |piece| {
        fits &= slab.copy(Room::NONE, piece);
    });
    if !cut || !fits {
        return lost(PlainDrop::TooBig);
    }
    for piece in &slab.placed[first..] {
        packet.at = *piece;
        outbox.queue_raw(owner, &family.raw, path.remote, path.local, &packet);
        (packet.packets, packet.inner_len) = (0, 0);
    }
}

/// The number of an IP packet in another by GRE's protocol type.
fn in_ip(protocol: u16) -> u8 {
    if protocol == IPV6 {
        IPV6_IN_IP
    } else {
        IPV4_IN_IP
    }
}

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv6() {
        IPV6_IN_IP
    } else {
        IPV4_IN_IP
    }
}

/// The GRE header alone, for the kinds that have one; *payload* begins with the room for it.
fn write_gre(options: &Options, protocol: u16, sequence: u32, payload: &mut [u8]) {
    if options.carries_gre() {
        let number = options.oseq.then_some(sequence);
        header::write(payload, protocol, options.ocsum, options.okey, number);
        if options.ocsum {
            header::set_checksum(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::carrier::protect::Path;
    use ginnel_crypto::esp::Suite;
    use ginnel_crypto::KeyMaterial;
    use ginnel_esp::inbound::{Arrived, Inbound};
    use ginnel_esp::outbound::Outbound;
    use ginnel_esp::outer::{Df, Rules};
    use ginnel_esp::sa::{Limits, Terms};
    use ginnel_esp::selectors::Selectors;
    use ginnel_gre::options::Kind;
    use std::net::SocketAddr;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn terms(suite: Suite, mode: Mode) -> Terms {
        Terms {
            spi: 1000,
            suite,
            mode,
            esn: false,
            limits: Limits::default(),
            selectors: Selectors::default(),
        }
    }

    fn keys(suite: Suite) -> [KeyMaterial; 2] {
        [suite.key_len(), suite.integrity_len()].map(|len| KeyMaterial::from_slice(&vec![7; len]))
    }

    fn cover(suite: Suite, mode: Mode, plan: &Plan) -> Cover {
        let [key, integrity] = keys(suite);
        let sending = Sending {
            sa: Arc::new(Outbound::new(terms(suite, mode), &key, &integrity, 0).unwrap()),
            path: Path {
                local: NEAR,
                local_port: 4500,
                remote: SocketAddr::new(FAR, 4500),
            },
            rules: Rules {
                dscp: true,
                df: Df::Copy,
            },
            fwmark: 0,
            device: 0,
        };
        Cover {
            shape: sending.shape(plan, false),
            sending: Arc::new(sending),
            ports: Arc::new(Ports::none()),
            bare: false,
        }
    }

    /// A keepalive that goes back has its delivery header off in transport mode: what is behind it must not run into the next one's room.
    #[test]
    fn finished_packets_and_others_do_not_touch_each_other() {
        let options = Options::new(Kind::Gre, Some(NEAR), Some(FAR));
        let plan = Plan::new(options, false, 0, None);
        let mut finished = vec![0x45, 0, 0, 24, 0, 1, 0, 0, 64, GRE, 0, 0];
        finished.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 0, 0]);
        for suite in Suite::all() {
            for mode in [Mode::Transport, Mode::Tunnel] {
                let cover = cover(suite, mode, &plan);
                let (mut sealer, mut slab) = (Sealer::default(), Slab::new());
                let fields = ginnel_gre::outer::fields(&plan.options, &finished);
                let mut placed = Vec::new();
                // Each is sealed alone, as `transmit` does it, and all are sent at the end.
                for at in 0..4 {
                    if at % 2 == 0 {
                        sealer
                            .add_finished(&cover, &finished, fields, &mut slab)
                            .unwrap();
                    } else {
                        assert!(slab.copy(cover.room(), &finished));
                        let outgoing = Outgoing {
                            placed: slab.placed[at],
                            fields,
                            protocol: header::IPV4,
                            sequence: 0,
                            cut: 0,
                        };
                        sealer.add(&cover, &plan, outgoing, 1, &mut slab).unwrap();
                    }
                    let one = sealer.waiting.pop().unwrap().placed;
                    let scratch = &mut sealer.scratch;
                    let sealed = cover.sending.sa.seal(&mut slab.bytes, &[one], 0, scratch);
                    assert_eq!(sealed.count, 1);
                    placed.push(one);
                }
                let [key, integrity] = keys(suite);
                let terms = terms(suite, mode);
                let inbound = Inbound::new(terms, &key, &integrity, 64, 0).unwrap();
                let arrived: Vec<_> = placed
                    .iter()
                    .map(|one| Arrived {
                        start: one.start,
                        len: layout::sealed_len(suite, one.payload),
                    })
                    .collect();
                let mut results = Vec::new();
                let scratch = &mut sealer.scratch;
                let _ = inbound.open(&mut slab.bytes, &arrived, 0, scratch, &mut results);
                assert!(
                    results.iter().all(Result::is_ok),
                    "{} {mode:?}: {results:?}",
                    suite.name()
                );
            }
        }
    }
}
