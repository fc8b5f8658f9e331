//! ICMP errors about what was sent: from the sockets' error queues to the tunnels that they quote.
//!
//! Anybody can invent one. So it is told only to a tunnel that sends what is quoted: of GRE its ends, its key and its flags as far as they were
//! quoted, of ESP its SPI (in UDP the ports, where no more was quoted); what it may change is bounded by who is told. How many are looked up is limited,
//! since each may ask every tunnel; those about none of ours are sorted out before, in one look. Of ESP that is not known before, so that it has
//! a share of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use ginnel_esp::outer::ESP;
use ginnel_esp::udp::MARKER;
use ginnel_gre::demux::{Found, Seen};
use ginnel_gre::header;
use ginnel_gre::options::Kind;
use ginnel_gre::quoted::{self, Quoted};
use ginnel_packet::ip;

use super::ike::Place;
use super::plain::Plain;
use super::protect::Protect;
use super::sockets::Socket;
use super::Shared;
use crate::bucket::Bucket;
use crate::event::PathErrorKind;
use crate::read;
use crate::sys::clock::boottime_ns;
use crate::sys::errors::{self, NetworkError, Origin, MAX_QUOTE};

const GRE: u8 = 47;
const UDP: u8 = 17;
/// Errors taken off one socket before packets are looked at again.
const ERRORS_AT_ONCE: usize = 16;
/// ICMP errors that are looked up, in a second, of ESP and of all others: each may ask every tunnel.
const ERRORS_PER_S: u64 = 1000;

/// What the receiving thread does with them.
pub(super) struct Errors {
    looked_up: Bucket,
    of_esp: Bucket,
}

impl Errors {
    pub fn new() -> Self {
        Self {
            looked_up: Bucket::new(ERRORS_PER_S, ERRORS_PER_S),
            of_esp: Bucket::new(ERRORS_PER_S, ERRORS_PER_S),
        }
    }

    /// ICMP errors about what was sent by this socket.
    pub fn take(&mut self, shared: &Shared, socket: &Socket) {
        let mut quote = [0; MAX_QUOTE];
        for _ in 0..ERRORS_AT_ONCE {
            let Ok(error) = errors::read(socket.fd(), &mut quote) else {
                return;
            };
            let now_ns = boottime_ns();
            if !matches!(error.origin, Origin::Icmp | Origin::Icmpv6) {
                continue;
            }
            let quote = &quote[..error.len];
            let quoted = match socket {
                Socket::Raw { .. } => quoted::parse(quote),
                Socket::Udp(_) => error.to.map(|to| Quoted {
                    // Not told.
                    local: to.ip(),
                    remote: to.ip(),
                    protocol: UDP,
                    key: quoted::key(quote),
                    flags: quoted::flags(quote),
                    ports: Some((0, to.port())),
                }),
                Socket::Port { place, .. } => {
                    if let Some(quoted) = quoted_esp(*place, &error, quote) {
                        if self.of_esp.take(now_ns) {
                            tell(shared, &error, now_ns, |tunnel| quoted.is_of(tunnel));
                        }
                    }
                    continue;
                }
            };
            let Some(quoted) = quoted else { continue };
            // Invented ones must not use up what those of our tunnels are looked up by.
            if may_be_about_us(shared, &quoted) && self.looked_up.take(now_ns) {
                tell(shared, &error, now_ns, |tunnel| is_about(tunnel, &quoted));
            }
        }
    }
}

/// Whether there is a tunnel between these ends, in one look. Of UDP our end is not told.
fn may_be_about_us(shared: &Shared, quoted: &Quoted) -> bool {
    let seen = Seen {
        local: quoted.local,
        remote: quoted.remote,
        key: quoted.key.flatten(),
        ethernet: false,
        protocol: quoted.protocol,
        udp: false,
        device: 0,
    };
    quoted.protocol == UDP || read(&shared.tables).demux.find(&seen) != Found::None
}

/// Tells every tunnel that the quoted packet may be of: those with the same ends share the path.
fn tell(shared: &Shared, error: &NetworkError, now_ns: u64, is_about: impl Fn(&Plain) -> bool) {
    let (kind, mtu) = meaning(error);
    let tunnels: Vec<Arc<Plain>> = read(&shared.tables)
        .tunnels
        .values()
        .filter(|tunnel| is_about(tunnel))
        .cloned()
        .collect();
    for tunnel in tunnels {
        tunnel.tell_path_error(
            &shared.events,
            kind,
            error.code,
            mtu,
            error.offender,
            now_ns,
        );
    }
}

/// ICMP's types and codes in our words: RFC 792, RFC 1191, RFC 4443.
fn meaning(error: &NetworkError) -> (PathErrorKind, u32) {
    match (error.origin, error.kind, error.code) {
        (Origin::Icmp, 3, 4) | (Origin::Icmpv6, 2, _) => (PathErrorKind::TooBig, error.info),
        (Origin::Icmp, 3, _) | (Origin::Icmpv6, 1, _) => (PathErrorKind::Unreachable, 0),
        (Origin::Icmp, 11, _) | (Origin::Icmpv6, 3, _) => (PathErrorKind::TimeExceeded, 0),
        _ => (PathErrorKind::Other, 0),
    }
}

/// Of a quoted packet of ours in ESP: where it went, in UDP with its port, and its SPI if so much was quoted.
struct QuotedEsp {
    to: SocketAddr,
    spi: Option<u32>,
}

fn quoted_esp(place: Place, error: &NetworkError, quote: &[u8]) -> Option<QuotedEsp> {
    match place {
        // Told of an IKE message: it is repeated in any case.
        Place::Ike => None,
        Place::Natt => match quote.first_chunk::<4>() {
            None => error.to.map(|to| QuotedEsp { to, spi: None }),
            Some(&MARKER) => None,
            Some(spi) => error.to.map(|to| QuotedEsp {
                to,
                spi: Some(u32::from_be_bytes(*spi)),
            }),
        },
        Place::Esp => {
            let at = ip::layout(quote).filter(|at| at.fragment != ip::Fragment::Later)?;
            let spi = quote.get(at.transport..)?.first_chunk::<4>()?;
            (at.protocol == ESP).then_some(())?;
            Some(QuotedEsp {
                to: SocketAddr::new(ip::destination(quote)?, 0),
                spi: Some(u32::from_be_bytes(*spi)),
            })
        }
    }
}

impl QuotedEsp {
    fn is_of(&self, tunnel: &Plain) -> bool {
        let sending = tunnel.protect.as_ref().and_then(Protect::sending);
        sending.is_some_and(|sending| {
            let to = sending.path.remote;
            let same = to.ip() == self.to.ip() && to.port() == self.to.port();
            same && self.spi.is_none_or(|spi| spi == sending.sa.spi())
        })
    }
}

fn is_about(tunnel: &Plain, quoted: &Quoted) -> bool {
    if tunnel.protect.is_some() {
        // Told by its SPI.
        return false;
    }
    let plan = tunnel.plan();
    let options = &plan.options;
    let Some(to) = tunnel.remote(&plan) else {
        return false;
    };
    if !plan.up || to.ip() != quoted.remote {
        return false;
    }
    if options.udp.is_some() != (quoted.protocol == UDP) {
        return false;
    }
    if let Some((_, port)) = quoted.ports {
        if to.port() != port {
            return false;
        }
    } else {
        let carried = match options.kind {
            Kind::Gre | Kind::GreTap => quoted.protocol == GRE,
            Kind::Ipip => quoted.protocol == 4,
            Kind::Sit => quoted.protocol == 41,
            Kind::Ip6Tnl => matches!(quoted.protocol, 4 | 41),
        };
        if !carried || options.local.is_some_and(|local| local != quoted.local) {
            return false;
        }
    }
    if !options.carries_gre() {
        return true;
    }
    let ours = header::flags(options.ocsum, options.okey.is_some(), options.oseq);
    let Some(flags) = quoted.flags else {
        // Of UDP some routers quote no more than its own header; which of several with keys it was cannot be told.
        return quoted.protocol == UDP && options.okey.is_none();
    };
    // Who does not know the key must not be believed for hiding it: without a checksum before it, it is in what all routers quote.
    flags == ours && quoted.key.map_or(options.ocsum, |key| key == options.okey)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn error(to: Option<SocketAddr>) -> NetworkError {
        NetworkError {
            origin: Origin::Icmp,
            kind: 3,
            code: 4,
            info: 1400,
            offender: None,
            to,
            len: 0,
        }
    }

    #[test]
    fn what_is_quoted_of_esp_shows_its_spi_or_is_nobodys() {
        let mut packet = vec![0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, ESP, 0, 0];
        packet.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1]);
        let quoted = quoted_esp(Place::Esp, &error(None), &packet).unwrap();
        assert_eq!(quoted.to, "192.0.2.2:0".parse().unwrap());
        assert_eq!(quoted.spi, Some(0x1234_5678));
        for len in 0..24 {
            assert!(quoted_esp(Place::Esp, &error(None), &packet[..len]).is_none());
        }
        packet[9] = 51;
        assert!(quoted_esp(Place::Esp, &error(None), &packet).is_none());
    }

    #[test]
    fn of_udp_the_socket_tells_where_it_went_and_ike_is_not_esp() {
        let to = "192.0.2.2:4500".parse().unwrap();
        let spi = [0x12, 0x34, 0x56, 0x78, 0];
        let seen = |place, quote: &[u8]| {
            quoted_esp(place, &error(Some(to)), quote).map(|quoted| (quoted.to, quoted.spi))
        };
        assert_eq!(seen(Place::Natt, &spi), Some((to, Some(0x1234_5678))));
        for len in 0..4 {
            assert_eq!(seen(Place::Natt, &spi[..len]), Some((to, None)));
        }
        assert_eq!(seen(Place::Natt, &[0; 8]), None);
        assert_eq!(seen(Place::Ike, &spi), None);
        assert!(quoted_esp(Place::Natt, &error(None), &spi).is_none());
    }
}
