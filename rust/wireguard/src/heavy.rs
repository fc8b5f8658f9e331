//! Who sends most of what is refused: the addresses whose floods are worth stopping in the kernel.
//!
//! A summary of fixed size finds the frequent ones of a stream (Misra and Gries, 1982): 32 counters; a refused message
//! adds one to its source's, takes a free one, or else takes one from all. Who sends more than a 33rd of all has a
//! counter at the end, and a flood from random addresses leaves none. Each second the summary is judged and begun anew.
//!
//! A listed address stays listed while a trickle of its flood still arrives, because the kernel lets only a trickle through.

use crate::constants::SECOND_NS;
use crate::sources::name_of;
use std::net::IpAddr;

const COUNTERS: usize = 32;
/// The socket filter has room for so many of each family.
pub(crate) const MAX_LISTED: usize = 16;
/// Refused messages a second that put an address on the list ...
const ENTER_PER_SECOND: u64 = 1000;
/// ... and that keep it there: what one in 32 of 640 a second still shows.
const STAY_PER_SECOND: u64 = 20;
/// How long an address stays after its last bad second.
const HOLD_NS: u64 = 5 * SECOND_NS;

#[derive(Clone, Copy)]
struct Counter {
    name: IpAddr,
    count: u64,
}

#[derive(Clone, Copy)]
struct Listed {
    name: IpAddr,
    until_ns: u64,
}

/// The summary of this second and the list.
pub(crate) struct Heavy {
    counters: Vec<Counter>,
    since_ns: u64,
    listed: Vec<Listed>,
}

impl Heavy {
    pub(crate) fn new() -> Self {
        Self {
            counters: Vec::with_capacity(COUNTERS),
            since_ns: 0,
            listed: Vec::with_capacity(2 * MAX_LISTED),
        }
    }

    /// A message from `addr` was refused.
    pub(crate) fn count(&mut self, addr: IpAddr) {
        let name = name_of(addr);
        if let Some(counter) = self
            .counters
            .iter_mut()
            .find(|counter| counter.name == name)
        {
            counter.count += 1;
        } else if self.counters.len() < COUNTERS {
            self.counters.push(Counter { name, count: 1 });
        } else {
            for counter in &mut self.counters {
                counter.count -= 1;
            }
            self.counters.retain(|counter| counter.count > 0);
        }
    }

    /// Judge the second that ends, if one does. `is_good` names sources that are never listed.
    pub(crate) fn roll(&mut self, now_ns: u64, mut is_good: impl FnMut(IpAddr) -> bool) {
        let elapsed = now_ns.saturating_sub(self.since_ns);
        if elapsed < SECOND_NS {
            return;
        }
        self.since_ns = now_ns;
        self.listed
            .retain(|listed| listed.until_ns > now_ns && !is_good(listed.name));
        let mut counters = std::mem::take(&mut self.counters);
        for &counter in &counters {
            // At most 2^64 / 10^9 messages fit a second of any network.
            let per_second = counter.count.saturating_mul(SECOND_NS) / elapsed;
            let until_ns = now_ns + HOLD_NS;
            if let Some(listed) = self
                .listed
                .iter_mut()
                .find(|listed| listed.name == counter.name)
            {
                if per_second >= STAY_PER_SECOND {
                    listed.until_ns = until_ns;
                }
            } else if per_second >= ENTER_PER_SECOND
                && !is_good(counter.name)
                && self.has_room(counter.name)
            {
                self.listed.push(Listed {
                    name: counter.name,
                    until_ns,
                });
            }
        }
        counters.clear();
        self.counters = counters;
    }

    fn has_room(&self, name: IpAddr) -> bool {
        self.listed
            .iter()
            .filter(|listed| listed.name.is_ipv4() == name.is_ipv4())
            .count()
            < MAX_LISTED
    }

    /// The list; an IPv6 address stands for its /64.
    pub(crate) fn listed(&self, now_ns: u64) -> Vec<IpAddr> {
        self.listed
            .iter()
            .filter(|listed| listed.until_ns > now_ns)
            .map(|listed| listed.name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const S: u64 = SECOND_NS;
    const T0: u64 = 1000 * S;

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    /// One second in which `noise` other addresses send one message each and each of `heavy` sends `each`.
    fn second(list: &mut Heavy, at: u64, heavy: &[IpAddr], each: u32, noise: u32) {
        for n in 0..noise.max(each) {
            if n < each {
                for &addr in heavy {
                    list.count(addr);
                }
            }
            if n < noise {
                list.count(v4(n.wrapping_mul(0x9e37_79b9)));
            }
        }
        list.roll(at, |_| false);
    }

    #[test]
    fn a_flooder_is_found_among_noise_and_forgotten_after() {
        let mut list = Heavy::new();
        list.roll(T0, |_| false);
        second(&mut list, T0 + S, &[v4(7)], 50_000, 20_000);
        assert_eq!(list.listed(T0 + S), [v4(7)]);
        second(&mut list, T0 + 2 * S, &[v4(7)], 30, 0);
        assert_eq!(list.listed(T0 + 6 * S), [v4(7)], "a trickle keeps it");
        assert!(list.listed(T0 + 8 * S).is_empty());
    }

    #[test]
    fn random_addresses_and_small_floods_list_nobody() {
        let mut list = Heavy::new();
        list.roll(T0, |_| false);
        second(&mut list, T0 + S, &[v4(7)], 900, 200_000);
        assert!(list.listed(T0 + S).is_empty());
        // 5,000 over ten seconds are 500 a second.
        for _ in 0..5_000 {
            list.count(v4(8));
        }
        list.roll(T0 + 11 * S, |_| false);
        assert!(list.listed(T0 + 11 * S).is_empty());
    }

    #[test]
    fn the_good_are_never_listed_and_the_list_is_bounded() {
        let mut list = Heavy::new();
        list.roll(T0, |_| false);
        let flood: Vec<_> = (1..=20)
            .map(v4)
            .chain([
                Ipv6Addr::from_bits(1 << 64 | 5).into(),
                Ipv6Addr::from_bits(1 << 64 | 6).into(),
            ])
            .collect();
        for _ in 0..2000 {
            for &addr in &flood {
                list.count(addr);
            }
        }
        list.roll(T0 + S, |addr| addr == v4(1));
        let listed = list.listed(T0 + S);
        assert_eq!(listed.len(), MAX_LISTED + 1);
        assert!(!listed.contains(&v4(1)));
        assert!(
            listed.contains(&Ipv6Addr::from_bits(1 << 64).into()),
            "a /64 counts as one"
        );
    }
}
