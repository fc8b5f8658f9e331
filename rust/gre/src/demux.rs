//! Which tunnel a packet is for: by local address, remote address and key, in Linux's order; and which it was nearly for.
//!
//! Order: (local, remote, key), (any, remote, key), (local, any, key), (any, any, key). First those bound to the packet's device
//! are asked, at all levels, then all: a device is a preference, and what comes in by another one is taken as well (so does
//! `ip_tunnel_lookup`). A tunnel with a key matches only packets with that key, one without only packets without. A tunnel whose
//! remote is a multicast group takes what is sent to the group, from anyone, at the third level. An unspecified address is *any*.
//! The address family is part of everything.
//!
//! Where we differ from Linux: what is found for a packet of the wrong kind (Ethernet for a `gre` tunnel, anything else for a
//! `gretap`) is the tunnel with these ends and this key, so that the refusal is counted there and can be said; a tunnel of the
//! right kind comes first.
//!
//! GRE in UDP and raw GRE are told apart, ports are not looked at (nor are they by Linux's fou): two UDP tunnels between
//! the same ends need keys. The peer's port is what a NAT makes of it.
//!
//! Theory. A tunnel is one entry in a hash table by all of that; a packet asks for each level that has any tunnel. A second table
//! without the device answers when the first does not, a third without the key answers "nearly". Only configuration adds entries,
//! so the hash needs no secret: a stranger chooses what is asked for, never what is stored.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;

use crate::options::{Kind, Options};

/// IP protocol number of GRE.
pub const GRE: u8 = 47;
/// IPv4 in IP.
pub const IPV4_IN_IP: u8 = 4;
/// IPv6 in IP.
pub const IPV6_IN_IP: u8 = 41;

/// What a packet shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub key: Option<u32>,
    /// Ethernet inside (a gretap and a gre tunnel may have the same ends).
    pub ethernet: bool,
    /// Protocol of the delivery header: 47, 4 or 41; GRE in UDP counts as 47 and is told apart by `udp`.
    pub protocol: u8,
    pub udp: bool,
    /// Index of the device it came in by; 0: not known.
    pub device: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Tunnel(T),
    /// No tunnel; but this one has the same ends and expects another key (or none, or one).
    WrongKey(T),
    None,
}

/// What is alike of two tunnels that only their keys tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    /// 0: any. IPv4 addresses as their 32 bits; `class` tells the families apart.
    local: u128,
    remote: u128,
    device: u32,
    class: u8,
}

impl Hash for Ends {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        for address in [self.local, self.remote] {
            state.write_u64(address as u64);
            state.write_u64((address >> 64) as u64);
        }
        state.write_u64(u64::from(self.device) << 8 | u64::from(self.class));
    }
}

/// All that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exact {
    ends: Ends,
    key: Option<u32>,
}

impl Exact {
    /// The same whatever the device.
    fn anywhere(mut self) -> Self {
        self.ends.device = 0;
        self
    }
}

impl Hash for Exact {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ends.hash(state);
        state.write_u64(self.key.map_or(1 << 32, u64::from));
    }
}

/// Multiply and fold, for what no stranger stores.
#[derive(Clone, Copy, Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    #[inline]
    fn write_u64(&mut self, value: u64) {
        // Odd, its bits without pattern (the golden ratio's).
        let wide =
            u128::from(self.0.rotate_left(23) ^ value) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

type Hashing = BuildHasherDefault<Mix>;

/// Bits of a class: which tunnels a packet can be for by its protocol alone.
const V6: u8 = 0x80;
const UDP: u8 = 0x40;
const KIND: u8 = 7;
const KIND_GRE: u8 = 0;
const KIND_ETHERNET: u8 = 1;
const KIND_IPIP: u8 = 2;
const KIND_SIT: u8 = 3;
const KIND_IP6TNL: u8 = 4;
const KINDS: usize = 5;

/// Which ends are given, (local, remote), in the order of asking.
const LEVELS: [(bool, bool); 4] = [(true, true), (false, true), (true, false), (false, false)];

/// How many tunnels there are at each level, of each kind: what none has is not asked.
type Counts = [[u32; LEVELS.len()]; KINDS];

/// The tunnels of one process.
#[derive(Debug)]
pub struct Demux<T> {
    exact: HashMap<Exact, T, Hashing>,
    /// Whatever the device (0 in the key): of several the one of the smallest index, which is the unbound one, if there is one.
    loose: HashMap<Exact, (u32, T), Hashing>,
    /// All tunnels that share their ends, whatever the device, in no order.
    near: HashMap<Ends, Vec<T>, Hashing>,
    /// What is in all of these, to be taken out again.
    entries: Vec<(T, Exact)>,
    /// All of them, and those bound to a device.
    counts: [Counts; 2],
}

impl<T> Default for Demux<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            loose: HashMap::default(),
            near: HashMap::default(),
            entries: Vec::new(),
            counts: [Counts::default(); 2],
        }
    }
}

impl<T: Copy + PartialEq> Demux<T> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Err with the tunnel that is there already when two could not be told apart (then nothing has changed).
    pub fn insert(&mut self, options: &Options, tunnel: T) -> Result<(), T> {
        let exact = Exact {
            ends: ends_of(options),
            key: if options.carries_gre() {
                options.ikey
            } else {
                None
            },
        };
        if let Some(there) = self.exact.get(&exact) {
            return Err(*there);
        }
        self.exact.insert(exact, tunnel);
        let device = exact.ends.device;
        let loose = self
            .loose
            .entry(exact.anywhere())
            .or_insert((device, tunnel));
        if device < loose.0 {
            *loose = (device, tunnel);
        }
        let near = self.near.entry(exact.anywhere().ends).or_default();
        near.push(tunnel);
        self.entries.push((tunnel, exact));
        for count in self.counted_by(&exact.ends) {
            *count += 1;
        }
        Ok(())
    }

    /// Takes every entry of *tunnel* out; idempotent.
    pub fn remove(&mut self, tunnel: T) {
        while let Some(at) = self.entries.iter().position(|(t, _)| *t == tunnel) {
            let (_, exact) = self.entries.swap_remove(at);
            let anywhere = exact.anywhere();
            self.exact.remove(&exact);
            for count in self.counted_by(&exact.ends) {
                *count -= 1;
            }
            if self.loose.get(&anywhere).is_some_and(|(_, t)| *t == tunnel) {
                match self.next(&anywhere) {
                    Some(next) => self.loose.insert(anywhere, next),
                    None => self.loose.remove(&anywhere),
                };
            }
            if let Some(same) = self.near.get_mut(&anywhere.ends) {
                same.retain(|t| *t != tunnel);
                if same.is_empty() {
                    self.near.remove(&anywhere.ends);
                }
            }
        }
    }

    /// Of the tunnels that only their devices tell apart, the one of the smallest index.
    fn next(&self, anywhere: &Exact) -> Option<(u32, T)> {
        if self.counts[1] == Counts::default() {
            return None; // no other can be there: most processes, and a search through all tunnels saved
        }
        self.entries
            .iter()
            .filter(|(_, exact)| exact.anywhere() == *anywhere)
            .map(|(tunnel, exact)| (exact.ends.device, *tunnel))
            .min_by_key(|(device, _)| *device)
    }

    /// One hash lookup for each of the levels that has any tunnel; no allocation.
    #[inline]
    pub fn find(&self, seen: &Seen) -> Found<T> {
        let Some((own, other)) = classes(seen) else {
            return Found::None;
        };
        let key = if seen.protocol == GRE { seen.key } else { None };
        let exact = |ends| self.exact.get(&Exact { ends, key }).copied();
        let loose = |ends| self.loose.get(&Exact { ends, key }).map(|(_, t)| *t);
        let near = |ends| self.near.get(&ends).and_then(|same| same.first()).copied();
        for class in [Some(own), other].into_iter().flatten() {
            let bound = match seen.device {
                0 => None,
                device => Self::ask(&self.counts[1], seen, device, class, exact),
            };
            if let Some(tunnel) =
                bound.or_else(|| Self::ask(&self.counts[0], seen, 0, class, loose))
            {
                return Found::Tunnel(tunnel);
            }
        }
        for class in [Some(own), other].into_iter().flatten() {
            if let Some(tunnel) = Self::ask(&self.counts[0], seen, 0, class, near) {
                return Found::WrongKey(tunnel);
            }
        }
        Found::None
    }

    /// Asks one table level by level, where there are any tunnels.
    #[inline]
    fn ask(
        counts: &Counts,
        seen: &Seen,
        device: u32,
        class: u8,
        get: impl Fn(Ends) -> Option<T>,
    ) -> Option<T> {
        let counts = counts.get(usize::from(class & KIND))?;
        let asked = LEVELS
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| **count != 0);
        asked
            .map(|((local, remote), _)| Ends {
                local: if local { bits(seen.local) } else { 0 },
                remote: if remote { bits(seen.remote) } else { 0 },
                device,
                class,
            })
            .find_map(get)
    }

    /// The counters that a tunnel with these ends is counted by.
    fn counted_by(&mut self, ends: &Ends) -> impl Iterator<Item = &mut u32> {
        let given = (ends.local != 0, ends.remote != 0);
        let level = LEVELS.into_iter().position(|level| level == given);
        let kind = usize::from(ends.class & KIND);
        let tables = if ends.device == 0 { 1 } else { 2 };
        self.counts
            .iter_mut()
            .take(tables)
            .filter_map(move |counts| counts.get_mut(kind)?.get_mut(level?))
    }
}

fn ends_of(options: &Options) -> Ends {
    let family = if options.over_v6() { V6 } else { 0 };
    let kind = match options.kind {
        Kind::Gre => KIND_GRE,
        Kind::GreTap => KIND_ETHERNET,
        Kind::Ipip => KIND_IPIP,
        Kind::Sit => KIND_SIT,
        Kind::Ip6Tnl => KIND_IP6TNL,
    };
    let udp = if options.udp.is_some() { UDP } else { 0 };
    let (local, remote) = match options.remote {
        Some(group) if group.is_multicast() => (bits(group), 0),
        remote => (options.local.map_or(0, bits), remote.map_or(0, bits)),
    };
    Ends {
        local,
        remote,
        device: options.device,
        class: family | udp | kind,
    }
}

/// The class that a packet belongs to, and the one to ask if that has no tunnel for it; None: not ours.
#[inline]
fn classes(seen: &Seen) -> Option<(u8, Option<u8>)> {
    let family = if seen.local.is_ipv6() { V6 } else { 0 };
    match (seen.protocol, family) {
        (GRE, _) => {
            let base = family | if seen.udp { UDP } else { 0 };
            let (gre, ethernet) = (base | KIND_GRE, base | KIND_ETHERNET);
            Some(if seen.ethernet {
                (ethernet, Some(gre))
            } else {
                (gre, Some(ethernet))
            })
        }
        (IPV4_IN_IP | IPV6_IN_IP, V6) => Some((V6 | KIND_IP6TNL, None)),
        (IPV4_IN_IP, _) => Some((KIND_IPIP, None)),
        (IPV6_IN_IP, _) => Some((KIND_SIT, None)),
        _ => None,
    }
}

#[inline]
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::options::tests::{options, udp};
    use std::net::Ipv4Addr;

    const A: &str = "192.0.2.1";
    const B: &str = "198.51.100.2";
    const C: &str = "203.0.113.3";

    fn ends(kind: Kind, local: &str, remote: &str, ikey: Option<u32>) -> Options {
        Options {
            ikey,
            ..options(kind, local, remote)
        }
    }

    fn seen(local: &str, remote: &str, key: Option<u32>) -> Seen {
        Seen {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            key,
            ethernet: false,
            protocol: GRE,
            udp: false,
            device: 0,
        }
    }

    #[test]
    fn the_order_is_both_ends_then_remote_then_local_then_none() {
        let mut table = Demux::new();
        let levels = [(A, B), ("", B), (A, ""), ("", "")];
        for (n, (local, remote)) in levels.into_iter().enumerate() {
            table
                .insert(&ends(Kind::Gre, local, remote, None), n)
                .unwrap();
        }
        for n in 0..4 {
            assert_eq!(table.find(&seen(A, B, None)), Found::Tunnel(n));
            table.remove(n);
        }
        assert_eq!(table.find(&seen(A, B, None)), Found::None);
        assert!(table.is_empty());
    }

    #[test]
    fn each_level_matches_what_it_names_and_nothing_else() {
        let packets = [(A, B), (C, B), (A, C), (C, C)];
        let levels = [(A, B), ("", B), (A, ""), ("", "")];
        for (n, (local, remote)) in levels.into_iter().enumerate() {
            let mut table = Demux::new();
            table
                .insert(&ends(Kind::Gre, local, remote, Some(7)), n)
                .unwrap();
            for (to, from) in packets {
                let matches =
                    (local.is_empty() || local == to) && (remote.is_empty() || remote == from);
                let expected = if matches {
                    Found::Tunnel(n)
                } else {
                    Found::None
                };
                assert_eq!(table.find(&seen(to, from, Some(7))), expected);
            }
        }
    }

    #[test]
    fn an_unspecified_address_is_any() {
        let mut table = Demux::new();
        table
            .insert(&ends(Kind::Gre, "0.0.0.0", "0.0.0.0", None), 1)
            .unwrap();
        table.insert(&ends(Kind::Gre, "::", "::", None), 2).unwrap();
        assert_eq!(table.find(&seen(A, B, None)), Found::Tunnel(1));
        assert_eq!(
            table.find(&seen("fd00::1", "fd00::2", None)),
            Found::Tunnel(2)
        );
        assert_eq!(table.insert(&ends(Kind::Gre, "", "", None), 3), Err(1));
    }

    #[test]
    fn a_key_matches_only_itself_and_none_only_none() {
        let mut table = Demux::new();
        table.insert(&ends(Kind::Gre, A, B, None), 1).unwrap();
        table.insert(&ends(Kind::Gre, A, B, Some(0)), 2).unwrap();
        table.insert(&ends(Kind::Gre, A, B, Some(7)), 3).unwrap();
        assert_eq!(table.find(&seen(A, B, None)), Found::Tunnel(1));
        assert_eq!(table.find(&seen(A, B, Some(0))), Found::Tunnel(2));
        assert_eq!(table.find(&seen(A, B, Some(7))), Found::Tunnel(3));
        assert!(matches!(
            table.find(&seen(A, B, Some(8))),
            Found::WrongKey(_)
        ));
        assert_eq!(table.find(&seen(A, C, Some(7))), Found::None);
    }

    #[test]
    fn a_wrong_or_missing_key_names_the_tunnel_it_was_nearly_for() {
        let mut table = Demux::new();
        table.insert(&ends(Kind::Gre, A, B, Some(8)), 1).unwrap();
        assert_eq!(table.find(&seen(A, B, Some(7))), Found::WrongKey(1));
        assert_eq!(table.find(&seen(A, B, None)), Found::WrongKey(1));
        // A wildcard tunnel is nearly meant as well, but one that matches comes first.
        table.insert(&ends(Kind::Gre, "", "", None), 2).unwrap();
        assert_eq!(table.find(&seen(A, B, None)), Found::Tunnel(2));
        assert_eq!(table.find(&seen(A, C, Some(7))), Found::WrongKey(2));
        table.remove(1);
        assert_eq!(table.find(&seen(A, B, Some(7))), Found::WrongKey(2));
    }

    #[test]
    fn two_that_could_not_be_told_apart_are_refused() {
        let mut table = Demux::new();
        table.insert(&ends(Kind::Gre, A, B, Some(1)), 1).unwrap();
        assert_eq!(table.insert(&ends(Kind::Gre, A, B, Some(1)), 2), Err(1));
        table.insert(&ends(Kind::GreTap, A, B, Some(1)), 3).unwrap();
        table
            .insert(&udp(&ends(Kind::Gre, A, B, Some(1))), 4)
            .unwrap();
        let bound = Options {
            device: 5,
            ..ends(Kind::Gre, A, B, Some(1))
        };
        table.insert(&bound, 5).unwrap();
        // Kinds without a key field: keys in the options tell nothing apart.
        table.insert(&ends(Kind::Ipip, A, B, None), 6).unwrap();
        assert_eq!(table.insert(&ends(Kind::Ipip, A, B, Some(9)), 7), Err(6));
        assert_eq!(table.len(), 5);
        table.remove(1);
        table.insert(&ends(Kind::Gre, A, B, Some(1)), 2).unwrap();
    }

    #[test]
    fn a_tunnel_bound_to_the_packets_device_comes_first() {
        let mut table = Demux::new();
        let on = |device, local, remote| Options {
            device,
            ..ends(Kind::Gre, local, remote, None)
        };
        let by = |device| Seen {
            device,
            ..seen(A, B, None)
        };
        table.insert(&on(0, A, B), 1).unwrap();
        table.insert(&on(4, A, B), 2).unwrap();
        table.insert(&on(5, "", ""), 3).unwrap();
        assert_eq!(table.find(&by(4)), Found::Tunnel(2));
        assert_eq!(table.find(&by(5)), Found::Tunnel(3));
        assert_eq!(table.find(&by(6)), Found::Tunnel(1));
        assert_eq!(table.find(&by(0)), Found::Tunnel(1));
    }

    #[test]
    fn by_another_device_the_level_counts_and_the_unbound_one_first() {
        let mut table = Demux::new();
        let on = |device, local, remote| Options {
            device,
            ..ends(Kind::Gre, local, remote, None)
        };
        let by = |device| Seen {
            device,
            ..seen(A, B, None)
        };
        for (n, device) in [9, 0, 7, 8].into_iter().enumerate() {
            table.insert(&on(device, A, B), n).unwrap();
        }
        table.insert(&on(0, "", ""), 4).unwrap();
        for device in [0, 3] {
            assert_eq!(table.find(&by(device)), Found::Tunnel(1));
        }
        table.remove(1);
        assert_eq!(table.find(&by(3)), Found::Tunnel(2), "the smallest index");
        table.remove(2);
        assert_eq!(table.find(&by(3)), Found::Tunnel(3));
        table.remove(3);
        assert_eq!(table.find(&by(3)), Found::Tunnel(0));
        assert_eq!(table.find(&by(9)), Found::Tunnel(0));
        table.remove(0);
        assert_eq!(table.find(&by(9)), Found::Tunnel(4));
    }

    #[test]
    fn a_multicast_remote_takes_what_is_sent_to_the_group() {
        let mut table = Demux::new();
        table
            .insert(&ends(Kind::Gre, A, "239.1.1.1", None), 1)
            .unwrap();
        assert_eq!(table.find(&seen("239.1.1.1", B, None)), Found::Tunnel(1));
        assert_eq!(table.find(&seen("239.1.1.1", C, None)), Found::Tunnel(1));
        assert_eq!(table.find(&seen(A, "239.1.1.1", None)), Found::None);
        assert_eq!(table.find(&seen(A, B, None)), Found::None);
        assert_eq!(
            table.insert(&ends(Kind::Gre, C, "239.1.1.1", None), 2),
            Err(1)
        );
        table
            .insert(&ends(Kind::Gre, "fd00::1", "ff05::7", None), 3)
            .unwrap();
        assert_eq!(
            table.find(&seen("ff05::7", "fd00::9", None)),
            Found::Tunnel(3)
        );
    }

    #[test]
    fn protocols_and_families_are_told_apart() {
        let mut table = Demux::new();
        let (a6, b6) = ("2001:db8::1", "2001:db8::2");
        let kinds = [
            (Kind::Gre, A, B),
            (Kind::Ipip, A, B),
            (Kind::Sit, A, B),
            (Kind::Gre, a6, b6),
            (Kind::Ip6Tnl, a6, b6),
        ];
        for (n, (kind, local, remote)) in kinds.into_iter().enumerate() {
            table.insert(&ends(kind, local, remote, None), n).unwrap();
        }
        let find = |protocol, local, remote| {
            table.find(&Seen {
                protocol,
                ..seen(local, remote, None)
            })
        };
        assert_eq!(find(47, A, B), Found::Tunnel(0));
        assert_eq!(find(4, A, B), Found::Tunnel(1));
        assert_eq!(find(41, A, B), Found::Tunnel(2));
        assert_eq!(find(47, a6, b6), Found::Tunnel(3));
        assert_eq!(find(4, a6, b6), Found::Tunnel(4));
        assert_eq!(find(41, a6, b6), Found::Tunnel(4));
        assert_eq!(find(50, A, B), Found::None);
        // The same bits in the other family.
        assert_eq!(find(47, "::c000:201", "::c633:6402"), Found::None);
    }

    #[test]
    fn gre_in_udp_is_not_gre_and_a_learned_peer_needs_only_its_key() {
        let mut table = Demux::new();
        table.insert(&ends(Kind::Gre, A, B, Some(1)), 1).unwrap();
        table
            .insert(&udp(&ends(Kind::Gre, "", "", Some(1))), 2)
            .unwrap();
        table
            .insert(&udp(&ends(Kind::Gre, "", "", Some(3))), 3)
            .unwrap();
        let by_udp = |key| Seen {
            udp: true,
            ..seen(A, B, Some(key))
        };
        assert_eq!(table.find(&seen(A, B, Some(1))), Found::Tunnel(1));
        assert_eq!(table.find(&by_udp(1)), Found::Tunnel(2));
        assert_eq!(table.find(&by_udp(3)), Found::Tunnel(3));
        assert!(matches!(table.find(&by_udp(4)), Found::WrongKey(2 | 3)));
    }

    #[test]
    fn ethernet_prefers_its_own_and_else_meets_the_refusal_of_the_other() {
        let mut table = Demux::new();
        table.insert(&ends(Kind::Gre, A, B, None), 1).unwrap();
        let frame = Seen {
            ethernet: true,
            ..seen(A, B, None)
        };
        assert_eq!(table.find(&frame), Found::Tunnel(1));
        table.insert(&ends(Kind::GreTap, A, B, None), 2).unwrap();
        assert_eq!(table.find(&frame), Found::Tunnel(2));
        assert_eq!(table.find(&seen(A, B, None)), Found::Tunnel(1));
        table.remove(1);
        assert_eq!(table.find(&seen(A, B, None)), Found::Tunnel(2));
        // A key of the right kind's tunnel is nearer than one of the other kind's.
        table.insert(&ends(Kind::Gre, A, B, Some(5)), 3).unwrap();
        assert_eq!(table.find(&seen(A, B, Some(6))), Found::WrongKey(3));
    }

    #[test]
    fn ten_thousand_tunnels_go_in_are_found_and_go_out() {
        let start = std::time::Instant::now();
        let mut table = Demux::new();
        let peer = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n / 2));
        for n in 0..10_000u32 {
            let one = Options {
                remote: Some(peer(n)),
                ..ends(Kind::Gre, A, "", Some(n))
            };
            table.insert(&one, n).unwrap();
        }
        for round in 0..10 {
            for n in 0..10_000u32 {
                let packet = Seen {
                    remote: peer(n),
                    ..seen(A, B, Some(n))
                };
                assert_eq!(table.find(&packet), Found::Tunnel(n), "{round}");
            }
        }
        let strange = seen(A, C, Some(1));
        assert_eq!(table.find(&strange), Found::None);
        for n in (0..10_000).rev() {
            table.remove(n);
        }
        assert!(table.exact.is_empty() && table.loose.is_empty() && table.near.is_empty());
        assert_eq!(table.counts, [Counts::default(); 2]);
        // Some milliseconds; a linear search would need 10^9 comparisons, many seconds.
        assert!(start.elapsed().as_secs() < 3, "{:?}", start.elapsed());
    }

    #[test]
    fn addresses_in_a_row_do_not_share_a_hash() {
        let mut low = std::collections::HashSet::new();
        let mut high = std::collections::HashSet::new();
        for n in 0..4096u32 {
            let mut state = Mix::default();
            let mut one = seen(A, B, None);
            one.remote = Ipv4Addr::from_bits(n << 8).into();
            Exact {
                ends: Ends {
                    local: bits(one.local),
                    remote: bits(one.remote),
                    device: 0,
                    class: 0,
                },
                key: None,
            }
            .hash(&mut state);
            low.insert(state.finish() & 0xffff);
            high.insert(state.finish() >> 48);
        }
        // Random would give 3,970 different values.
        assert!(
            low.len() > 3_800 && high.len() > 3_800,
            "{} {}",
            low.len(),
            high.len()
        );
    }
}
