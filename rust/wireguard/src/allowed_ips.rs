//! Which peer an inner address belongs to: longest-prefix match over all peers of an interface, and each peer's own list.
//!
//! There is one table a device, never one a peer: on receive the *device-wide* longest match of the source must be the
//! peer that sent it, or else one peer could speak for a sub-prefix that belongs to another.
//!
//! # How it is found
//!
//! A trie of 6-bit steps with compressed paths. A node stands for one prefix whose length is a multiple of 6 and knows, in
//! two 64-bit words, what is inside: `prefixes`, the up to 63 prefixes that are 0 to 5 bits longer than the node's own,
//! numbered as a heap (`1` the node's own; `2n`, `2n + 1` one bit longer); and `children`, which of the 64 next steps lead
//! on, to another node or straight to a single prefix. The rank of a bit in its word (one population count) is the
//! index in `links`: children first, prefixes after. A node exists only where prefixes part or one contains another, so there
//! are never more nodes than prefixes, and a lookup in ten thousand of them visits three or four.
//! The prefixes of a heap that contain a given step are a constant mask; the highest bit of what remains is the longest.
//!
//! Both families are 128-bit numbers with the address at the top; each has its own root.
//! IPv4-mapped IPv6 addresses are IPv6, as in the kernel.
//!
//! # Each peer's list
//!
//! Entries are chained in the order in which they were given, one chain a peer: removing a peer costs what that peer
//! holds, not what the table holds, and moving a prefix to another peer is constant.
//!
//! Size is the operator's doing alone; nothing that arrives from the network changes the table.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Index, IndexMut};

/// Bits of an address that one node decides.
const STEP: u8 = 6;
const NONE: u32 = u32::MAX;

/// The longest-prefix table of one interface. `P` names a peer.
#[derive(Clone, Debug)]
pub struct Table<P: Copy + Eq + Hash> {
    v4: Link,
    v6: Link,
    nodes: Slab<Node>,
    entries: Slab<Entry<P>>,
    chains: HashMap<P, Chain>,
}

/// What a step leads to; the number is an index in its slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Nothing,
    Entry(u32),
    Node(u32),
}

/// A place in the trie where prefixes part.
#[derive(Clone, Debug, Default)]
struct Node {
    /// The prefix of `depth` bits that everything below shares; the rest is zero.
    base: u128,
    /// `depth` ones from the top.
    mask: u128,
    children: u64,
    prefixes: u64,
    /// First the children in the order of their bits, then the prefixes (always entries) in the order of theirs.
    links: Vec<Link>,
    depth: u8,
}

/// One prefix and who holds it.
#[derive(Clone, Debug)]
struct Entry<P> {
    key: Key,
    peer: P,
    before: u32,
    after: u32,
}

/// A prefix: its bits at the top of 128, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    bits: u128,
    /// `len` ones from the top.
    mask: u128,
    len: u8,
    v4: bool,
}

/// The entries of one peer, first to last.
#[derive(Clone, Copy, Debug)]
struct Chain {
    first: u32,
    last: u32,
}

impl<P: Copy + Eq + Hash> Default for Table<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Copy + Eq + Hash> Table<P> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            v4: Link::Nothing,
            v6: Link::Nothing,
            nodes: Slab::default(),
            entries: Slab::default(),
            chains: HashMap::new(),
        }
    }

    /// How many prefixes the table holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are no prefixes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Give a prefix to `peer`, taking it from whoever holds it, whom this returns. Host bits are masked off; a length
    /// beyond the address is the whole address.
    pub fn insert(&mut self, addr: IpAddr, cidr: u8, peer: P) -> Option<P> {
        let key = Key::new(addr, cidr);
        if let Some(index) = self.find(key) {
            let held_by = self.entries[index].peer;
            if held_by != peer {
                self.unchain(index);
                self.entries[index].peer = peer;
                self.chain(index);
            }
            return Some(held_by);
        }
        let index = self.entries.add(Entry {
            key,
            peer,
            before: NONE,
            after: NONE,
        });
        self.chain(index);
        let root = self.root(key.v4);
        let grown = self.grow(root, key, Link::Entry(index));
        self.set_root(key.v4, grown);
        None
    }

    /// Take a prefix from `peer`. False, and nothing changes, when that peer does not hold exactly this prefix.
    pub fn remove(&mut self, addr: IpAddr, cidr: u8, peer: P) -> bool {
        let Some(index) = self.find(Key::new(addr, cidr)) else {
            return false;
        };
        if self.entries[index].peer != peer {
            return false;
        }
        self.unchain(index);
        self.erase(index);
        true
    }

    /// Take all prefixes from `peer`; costs what that peer holds.
    pub fn remove_peer(&mut self, peer: P) {
        let Some(chain) = self.chains.remove(&peer) else {
            return;
        };
        let mut index = chain.first;
        while index != NONE {
            let after = self.entries[index].after;
            self.erase(index);
            index = after;
        }
    }

    /// The peer with the longest prefix that contains `addr`.
    #[inline]
    pub fn lookup(&self, addr: IpAddr) -> Option<P> {
        match addr {
            IpAddr::V4(addr) => self.lookup_v4(addr.to_bits()),
            IpAddr::V6(addr) => self.lookup_v6(addr.to_bits()),
        }
    }

    /// `lookup` of an IPv4 address as a number (network order read as big-endian).
    #[inline]
    pub fn lookup_v4(&self, addr: u32) -> Option<P> {
        self.longest(self.v4, u128::from(addr) << 96)
    }

    /// `lookup` of an IPv6 address as a number.
    #[inline]
    pub fn lookup_v6(&self, addr: u128) -> Option<P> {
        self.longest(self.v6, addr)
    }

    /// What `peer` holds, in the order in which it was given.
    pub fn prefixes_of(&self, peer: P) -> Vec<(IpAddr, u8)> {
        let mut prefixes = Vec::new();
        let mut index = self.chains.get(&peer).map_or(NONE, |chain| chain.first);
        while index != NONE {
            let entry = &self.entries[index];
            prefixes.push((entry.key.addr(), entry.key.len));
            index = entry.after;
        }
        prefixes
    }

    // ---- the trie

    #[inline]
    fn longest(&self, root: Link, addr: u128) -> Option<P> {
        let mut best = NONE;
        let mut link = root;
        loop {
            match link {
                Link::Nothing => break,
                Link::Entry(index) => {
                    if self.entries[index].key.contains(addr) {
                        best = index;
                    }
                    break;
                }
                Link::Node(index) => {
                    let node = &self.nodes[index];
                    if !node.contains(addr) {
                        break;
                    }
                    let step = node.step(addr);
                    let inside = node.prefixes & ANCESTORS[step];
                    if inside != 0 {
                        if let Link::Entry(held) = node.links[node.prefix_index(inside.ilog2())] {
                            best = held;
                        }
                    }
                    if node.children >> step & 1 == 0 {
                        break;
                    }
                    link = node.links[node.child_index(step)];
                }
            }
        }
        (best != NONE).then(|| self.entries[best].peer)
    }

    /// The entry of exactly this prefix.
    fn find(&self, key: Key) -> Option<u32> {
        let mut link = self.root(key.v4);
        loop {
            match link {
                Link::Nothing => return None,
                Link::Entry(index) => return (self.entries[index].key == key).then_some(index),
                Link::Node(index) => {
                    let node = &self.nodes[index];
                    if key.len < node.depth || !node.contains(key.bits) {
                        return None;
                    }
                    link = node.link(node.place(key));
                }
            }
        }
    }

    /// What `link` becomes when `new` (an entry for `key`, or a node that stands for `key`) is put below it.
    /// The depth of recursion is at most the steps in an address, 22.
    fn grow(&mut self, link: Link, key: Key, new: Link) -> Link {
        let there = match link {
            Link::Nothing => return new,
            Link::Entry(index) => self.entries[index].key,
            Link::Node(index) => {
                let node = &self.nodes[index];
                if key.len >= node.depth && node.contains(key.bits) {
                    let place = node.place(key);
                    let below = node.link(place);
                    let grown = self.grow(below, key, new);
                    self.nodes[index].set(place, grown);
                    return link;
                }
                Key {
                    bits: node.base,
                    mask: node.mask,
                    len: node.depth,
                    v4: key.v4,
                }
            }
        };
        // They part somewhere: a node at the last step that they share, with both inside.
        let depth = key.shared_with(there) / STEP * STEP;
        let mask = masked(u128::MAX, depth);
        let node = Node {
            base: key.bits & mask,
            mask,
            depth,
            ..Node::default()
        };
        let parting = Link::Node(self.nodes.add(node));
        self.grow(parting, there, link);
        self.grow(parting, key, new)
    }

    /// Remove an entry, already off its chain, from the trie and from the slab.
    fn erase(&mut self, index: u32) {
        let key = self.entries[index].key;
        let root = self.root(key.v4);
        let shrunk = self.shrink(root, key);
        self.set_root(key.v4, shrunk);
        self.entries.release(index);
    }

    /// What `link` becomes without the prefix `key`. A node left with one link gives way to it.
    fn shrink(&mut self, link: Link, key: Key) -> Link {
        match link {
            Link::Nothing | Link::Entry(_) => Link::Nothing,
            Link::Node(index) => {
                let place = self.nodes[index].place(key);
                let below = self.nodes[index].link(place);
                let shrunk = self.shrink(below, key);
                let node = &mut self.nodes[index];
                node.set(place, shrunk);
                match node.links[..] {
                    [] => {
                        self.nodes.release(index);
                        Link::Nothing
                    }
                    [only] => {
                        self.nodes.release(index);
                        only
                    }
                    _ => link,
                }
            }
        }
    }

    fn root(&self, v4: bool) -> Link {
        if v4 {
            self.v4
        } else {
            self.v6
        }
    }

    fn set_root(&mut self, v4: bool, link: Link) {
        *(if v4 { &mut self.v4 } else { &mut self.v6 }) = link;
    }

    // ---- the chains

    /// Put an entry at the end of its peer's chain.
    fn chain(&mut self, index: u32) {
        let peer = self.entries[index].peer;
        let chain = self.chains.entry(peer).or_insert(Chain {
            first: index,
            last: NONE,
        });
        let last = std::mem::replace(&mut chain.last, index);
        self.entries[index].before = last;
        self.entries[index].after = NONE;
        if last != NONE {
            self.entries[last].after = index;
        }
    }

    /// Take an entry off its peer's chain.
    fn unchain(&mut self, index: u32) {
        let Entry {
            peer,
            before,
            after,
            ..
        } = self.entries[index];
        if before == NONE && after == NONE {
            self.chains.remove(&peer);
            return;
        }
        if before != NONE {
            self.entries[before].after = after;
        }
        if after != NONE {
            self.entries[after].before = before;
        }
        if let Some(chain) = self.chains.get_mut(&peer) {
            if before == NONE {
                chain.first = after;
            }
            if after == NONE {
                chain.last = before;
            }
        }
    }
}

/// Where in a node something belongs.
#[derive(Clone, Copy)]
enum Place {
    /// Below this step.
    Child(usize),
    /// A prefix of the node itself, by its number in the heap.
    Prefix(u32),
}

impl Node {
    #[inline]
    fn contains(&self, addr: u128) -> bool {
        (addr ^ self.base) & self.mask == 0
    }

    /// The next `STEP` bits of an address inside this node (zeros beyond its end).
    #[inline]
    fn step(&self, addr: u128) -> usize {
        ((addr << self.depth) >> (128 - STEP)) as usize
    }

    #[inline]
    fn child_index(&self, step: usize) -> usize {
        (self.children & ((1 << step) - 1)).count_ones() as usize
    }

    #[inline]
    fn prefix_index(&self, number: u32) -> usize {
        (self.children.count_ones() + (self.prefixes & ((1 << number) - 1)).count_ones()) as usize
    }

    /// Where a prefix that this node contains belongs.
    fn place(&self, key: Key) -> Place {
        let longer = key.len - self.depth;
        let step = self.step(key.bits);
        if longer < STEP {
            Place::Prefix(1 << longer | (step >> (STEP - longer)) as u32)
        } else {
            Place::Child(step)
        }
    }

    fn link(&self, place: Place) -> Link {
        match place {
            Place::Child(step) if self.children >> step & 1 == 1 => {
                self.links[self.child_index(step)]
            }
            Place::Prefix(number) if self.prefixes >> number & 1 == 1 => {
                self.links[self.prefix_index(number)]
            }
            Place::Child(_) | Place::Prefix(_) => Link::Nothing,
        }
    }

    fn set(&mut self, place: Place, link: Link) {
        let (index, word, bit) = match place {
            Place::Child(step) => (self.child_index(step), &mut self.children, 1_u64 << step),
            Place::Prefix(number) => (
                self.prefix_index(number),
                &mut self.prefixes,
                1_u64 << number,
            ),
        };
        match (*word & bit != 0, link) {
            (false, Link::Nothing) => {}
            (true, Link::Nothing) => {
                self.links.remove(index);
                *word &= !bit;
            }
            (true, _) => self.links[index] = link,
            (false, _) => {
                // Exactly: most nodes keep the few links that they have for ever.
                self.links.reserve_exact(1);
                self.links.insert(index, link);
                *word |= bit;
            }
        }
    }
}

impl Key {
    fn new(addr: IpAddr, cidr: u8) -> Self {
        let (bits, width, v4) = match addr {
            IpAddr::V4(addr) => (u128::from(addr.to_bits()) << 96, 32, true),
            IpAddr::V6(addr) => (addr.to_bits(), 128, false),
        };
        let len = cidr.min(width);
        let mask = masked(u128::MAX, len);
        Self {
            bits: bits & mask,
            mask,
            len,
            v4,
        }
    }

    fn addr(self) -> IpAddr {
        if self.v4 {
            Ipv4Addr::from_bits((self.bits >> 96) as u32).into()
        } else {
            Ipv6Addr::from_bits(self.bits).into()
        }
    }

    #[inline]
    fn contains(self, addr: u128) -> bool {
        (addr ^ self.bits) & self.mask == 0
    }

    /// How many leading bits two prefixes share: at most the shorter of them.
    fn shared_with(self, other: Self) -> u8 {
        ((self.bits ^ other.bits).leading_zeros() as u8)
            .min(self.len)
            .min(other.len)
    }
}

fn masked(bits: u128, len: u8) -> u128 {
    match len {
        0 => 0,
        len => bits >> (128 - len) << (128 - len),
    }
}

/// For each step, the numbers in the heap of the prefixes of 0 to 5 bits that contain it.
static ANCESTORS: [u64; 64] = {
    let mut masks = [0; 64];
    let mut step = 0;
    while step < 64 {
        let mut len = 0;
        while len < STEP {
            masks[step] |= 1 << (1 << len | step >> (STEP - len));
            len += 1;
        }
        step += 1;
    }
    masks
};

/// Values by index; the places of removed ones are used again.
#[derive(Clone, Debug)]
struct Slab<T> {
    values: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    fn add(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self[index] = value;
            return index;
        }
        // 2^32 prefixes do not fit any memory this runs in.
        self.values.push(value);
        (self.values.len() - 1) as u32
    }

    /// Nothing may refer to the place any more; the value stays until the place is used again.
    fn release(&mut self, index: u32) {
        self.free.push(index);
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.values[index as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.values[index as usize]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn put(table: &mut Table<u32>, prefix: &str, peer: u32) -> Option<u32> {
        let (addr, cidr) = prefix.split_once('/').unwrap();
        table.insert(ip(addr), cidr.parse().unwrap(), peer)
    }

    fn drop_from(table: &mut Table<u32>, prefix: &str, peer: u32) -> bool {
        let (addr, cidr) = prefix.split_once('/').unwrap();
        table.remove(ip(addr), cidr.parse().unwrap(), peer)
    }

    fn held(table: &Table<u32>, peer: u32) -> Vec<String> {
        table
            .prefixes_of(peer)
            .into_iter()
            .map(|(addr, cidr)| format!("{addr}/{cidr}"))
            .collect()
    }

    /// Nothing is left of the trie and its slabs once the table is empty.
    fn assert_empty(table: &Table<u32>) {
        assert!(table.is_empty());
        assert_eq!((table.v4, table.v6), (Link::Nothing, Link::Nothing));
        assert_eq!((table.nodes.len(), table.chains.len()), (0, 0));
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let prefixes = [
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.1.0.0/16", 3),
            ("10.1.2.0/24", 4),
            ("10.1.2.128/25", 5),
            ("10.1.2.200/32", 6),
            ("::/0", 11),
            ("2001:db8::/32", 12),
            ("2001:db8:0:1::/64", 13),
            ("2001:db8:0:1::5/128", 14),
            ("2001:db8:0:1::4/126", 15),
        ];
        let answers = [
            ("11.0.0.1", 1),
            ("10.9.9.9", 2),
            ("10.1.9.9", 3),
            ("10.1.2.3", 4),
            ("10.1.2.129", 5),
            ("10.1.2.200", 6),
            ("255.255.255.255", 1),
            ("::1", 11),
            ("2001:db8:ffff::", 12),
            ("2001:db8:0:1::9", 13),
            ("2001:db8:0:1::5", 14),
            ("2001:db8:0:1::6", 15),
        ];
        for rotation in 0..prefixes.len() {
            let mut table = Table::new();
            let mut order = prefixes;
            order.rotate_left(rotation);
            for (prefix, peer) in order {
                assert_eq!(put(&mut table, prefix, peer), None);
            }
            for (addr, peer) in answers {
                assert_eq!(table.lookup(ip(addr)), Some(peer), "{addr}");
            }
            for (prefix, peer) in order {
                assert!(drop_from(&mut table, prefix, peer));
            }
            assert_empty(&table);
        }
    }

    #[test]
    fn host_bits_are_masked_and_a_length_too_long_is_the_address() {
        let mut table = Table::new();
        put(&mut table, "10.1.2.3/8", 1);
        put(&mut table, "fd00::dead:beef/64", 1);
        put(&mut table, "192.0.2.1/200", 1);
        assert_eq!(held(&table, 1), ["10.0.0.0/8", "fd00::/64", "192.0.2.1/32"]);
        assert_eq!(
            put(&mut table, "10.9.9.9/8", 2),
            Some(1),
            "the same prefix, differently written"
        );
        assert!(drop_from(&mut table, "10.7.7.7/8", 2));
    }

    #[test]
    fn a_prefix_moves_and_each_list_keeps_its_order() {
        let mut table = Table::new();
        for prefix in ["10.0.1.0/24", "fd00::1/128", "10.0.2.0/24", "10.0.3.0/24"] {
            put(&mut table, prefix, 1);
        }
        put(&mut table, "10.0.9.0/24", 2);
        assert_eq!(put(&mut table, "10.0.2.0/24", 2), Some(1));
        assert_eq!(
            put(&mut table, "10.0.2.0/24", 2),
            Some(2),
            "again, where it is already"
        );
        assert_eq!(
            held(&table, 1),
            ["10.0.1.0/24", "fd00::1/128", "10.0.3.0/24"]
        );
        assert_eq!(held(&table, 2), ["10.0.9.0/24", "10.0.2.0/24"]);
        assert_eq!(table.lookup(ip("10.0.2.5")), Some(2));
        put(&mut table, "10.0.1.0/24", 2);
        put(&mut table, "10.0.3.0/24", 2);
        put(&mut table, "fd00::1/128", 2);
        assert!(held(&table, 1).is_empty());
        table.remove_peer(1);
        table.remove_peer(2);
        assert_empty(&table);
    }

    #[test]
    fn only_the_holder_can_lose_a_prefix() {
        let mut table = Table::new();
        put(&mut table, "10.0.0.0/8", 1);
        assert!(!drop_from(&mut table, "10.0.0.0/8", 2));
        assert!(!drop_from(&mut table, "10.0.0.0/9", 1));
        assert!(!drop_from(&mut table, "0.0.0.0/0", 1));
        assert_eq!(table.lookup(ip("10.0.0.1")), Some(1));
        assert!(drop_from(&mut table, "10.0.0.0/8", 1));
        assert!(!drop_from(&mut table, "10.0.0.0/8", 1));
        assert_empty(&table);
    }

    #[test]
    fn r2_a_sub_prefix_belongs_to_its_own_peer() {
        let mut table = Table::new();
        put(&mut table, "10.0.0.0/8", 1);
        put(&mut table, "10.20.0.0/16", 2);
        assert_eq!(
            table.lookup(ip("10.20.0.5")),
            Some(2),
            "peer 1 may not speak for 10.20.0.5 though its prefix contains it"
        );
        table.remove_peer(2);
        assert_eq!(table.lookup(ip("10.20.0.5")), Some(1));
    }

    #[test]
    fn mapped_ipv6_is_ipv6() {
        let mut table = Table::new();
        put(&mut table, "1.2.3.0/24", 1);
        put(&mut table, "::ffff:1.2.3.0/120", 2);
        assert_eq!(table.lookup(ip("1.2.3.4")), Some(1));
        assert_eq!(table.lookup(ip("::ffff:1.2.3.4")), Some(2));
        assert_eq!(table.lookup_v4(0x0102_0304), Some(1));
        assert_eq!(table.lookup_v6(0xffff_0102_0304), Some(2));
    }

    #[test]
    fn nothing_matches_outside() {
        let mut table = Table::new();
        assert_eq!(table.lookup(ip("0.0.0.0")), None);
        put(&mut table, "10.0.0.0/30", 1);
        put(&mut table, "10.0.0.8/30", 2);
        put(&mut table, "fd00::/127", 3);
        for outside in [
            "10.0.0.4",
            "10.0.0.12",
            "10.0.1.0",
            "138.0.0.0",
            "fd00::2",
            "::",
        ] {
            assert_eq!(table.lookup(ip(outside)), None, "{outside}");
        }
    }

    // ---- against a linear list

    /// The oracle: a list, searched from end to end.
    #[derive(Default)]
    struct Naive(Vec<(Key, u32)>);

    impl Naive {
        fn insert(&mut self, key: Key, peer: u32) -> Option<u32> {
            let before = self.remove(key);
            self.0.push((key, peer));
            before
        }

        fn remove(&mut self, key: Key) -> Option<u32> {
            let at = self.0.iter().position(|&(held, _)| held == key)?;
            Some(self.0.swap_remove(at).1)
        }

        fn lookup(&self, v4: bool, bits: u128) -> Option<u32> {
            let matching = self
                .0
                .iter()
                .filter(|(key, _)| key.v4 == v4 && key.contains(bits));
            matching
                .max_by_key(|(key, _)| key.len)
                .map(|&(_, peer)| peer)
        }
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        // Few distinct bits, so that prefixes nest and collide.
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits & 0xc00f_0103))),
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(
                bits & (0xc0 << 120 | 0x1_0003 << 60 | 7)
            ))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(IpAddr, u8, u32),
        Remove(IpAddr, u8, u32),
        RemovePeer(u32),
        Lookup(IpAddr),
    }

    fn ops() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (addresses(), 0_u8..=128, 0_u32..6).prop_map(|(addr, cidr, peer)| Op::Insert(addr, cidr, peer)),
            4 => (addresses(), 0_u8..=128, 0_u32..6).prop_map(|(addr, cidr, peer)| Op::Remove(addr, cidr, peer)),
            1 => (0_u32..6).prop_map(Op::RemovePeer),
            8 => addresses().prop_map(Op::Lookup),
        ]
    }

    proptest! {
        #[test]
        fn equals_a_linear_list(ops in prop::collection::vec(ops(), 1..300)) {
            let mut table = Table::new();
            let mut naive = Naive::default();
            for op in ops {
                match op {
                    Op::Insert(addr, cidr, peer) => {
                        prop_assert_eq!(table.insert(addr, cidr, peer), naive.insert(Key::new(addr, cidr), peer));
                    }
                    Op::Remove(addr, cidr, peer) => {
                        let key = Key::new(addr, cidr);
                        let held = naive.0.contains(&(key, peer));
                        if held {
                            naive.remove(key);
                        }
                        prop_assert_eq!(table.remove(addr, cidr, peer), held);
                    }
                    Op::RemovePeer(peer) => {
                        naive.0.retain(|&(_, holder)| holder != peer);
                        table.remove_peer(peer);
                    }
                    Op::Lookup(addr) => {
                        let key = Key::new(addr, 128);
                        prop_assert_eq!(table.lookup(addr), naive.lookup(key.v4, key.bits), "{}", addr);
                    }
                }
                prop_assert_eq!(table.len(), naive.0.len());
                prop_assert!(table.nodes.len() <= table.len());
            }
            for peer in 0..6 {
                prop_assert_eq!(table.prefixes_of(peer).len(), naive.0.iter().filter(|&&(_, holder)| holder == peer).count());
                table.remove_peer(peer);
            }
            assert_empty(&table);
        }
    }

    /// The next number of a small generator (splitmix64).
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn random_key(state: &mut u64, v4: bool) -> Key {
        let bits = u128::from(random(state)) << 64 | u128::from(random(state));
        let width = if v4 { 32 } else { 128 };
        Key::new(addr_of(v4, bits), (random(state) % width + 1) as u8)
    }

    fn addr_of(v4: bool, bits: u128) -> IpAddr {
        Key {
            bits,
            mask: 0,
            len: 0,
            v4,
        }
        .addr()
    }

    /// As the kernel's own random test does it: 2,000 peers of 400 random prefixes and 100 variations of earlier ones each.
    /// The list of a million is searched for a sample of addresses, near prefixes and anywhere; then every other peer goes,
    /// and again.
    #[test]
    fn two_thousand_peers_with_five_hundred_routes_each() {
        const PEERS: u32 = 2_000;
        let mut state = 7;
        let mut table = Table::new();
        let mut held: HashMap<(bool, u8, u128), u32> = HashMap::new();
        let mut keys: Vec<Key> = Vec::new();
        for peer in 0..PEERS {
            for route in 0..500 {
                let v4 = random(&mut state).is_multiple_of(2);
                let key = if route < 400 {
                    random_key(&mut state, v4)
                } else {
                    // Another length and a flipped bit of one that exists: nested, neighbouring and equal prefixes.
                    let from = keys[(random(&mut state) % keys.len() as u64) as usize];
                    let flipped = from.bits ^ 1 << (random(&mut state) % 128);
                    Key::new(addr_of(from.v4, flipped), (random(&mut state) % 130) as u8)
                };
                assert_eq!(
                    table.insert(key.addr(), key.len, peer),
                    held.insert((key.v4, key.len, key.bits), peer)
                );
                keys.push(key);
            }
        }
        compare(&table, &held, &keys, &mut state);
        for peer in (0..PEERS).step_by(2) {
            table.remove_peer(peer);
        }
        held.retain(|_, peer| *peer % 2 == 1);
        compare(&table, &held, &keys, &mut state);
        for peer in 0..PEERS {
            table.remove_peer(peer);
        }
        assert_empty(&table);
    }

    /// 20,000 lookups against the longest of all possible lengths, and 60 of them against a linear search as well.
    fn compare(
        table: &Table<u32>,
        held: &HashMap<(bool, u8, u128), u32>,
        keys: &[Key],
        state: &mut u64,
    ) {
        assert_eq!(table.len(), held.len());
        for query in 0..20_000 {
            let near = keys[(random(state) % keys.len() as u64) as usize];
            let noise = u128::from(random(state)) << 64 | u128::from(random(state));
            let bits = match query % 4 {
                0 => noise,
                1 => near.bits,
                _ => near.bits | noise & !masked(u128::MAX, near.len),
            };
            let key = Key::new(addr_of(near.v4, bits), 128);
            let expected = (0..=key.len)
                .rev()
                .find_map(|len| held.get(&(key.v4, len, masked(key.bits, len))).copied());
            assert_eq!(table.lookup(key.addr()), expected, "{}", key.addr());
            if query % 333 == 0 {
                let linear = held.iter().filter(|((v4, len, bits), _)| {
                    *v4 == key.v4 && masked(key.bits, *len) == *bits
                });
                assert_eq!(
                    expected,
                    linear
                        .max_by_key(|((_, len, _), _)| *len)
                        .map(|(_, &peer)| peer)
                );
            }
        }
    }
}
