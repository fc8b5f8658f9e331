//! An inner packet that is too large for the tunnel's path (RFC 7588, RFC 7676).

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Fits,
    /// IPv4 without DF: cut the inner packet into fragments of at most the MTU, then encapsulate each.
    Fragment,
    /// Answer with ICMP fragmentation needed, or packet too big, naming the MTU; and drop.
    Answer,
    /// It can neither be cut nor answered: send it in a delivery packet without DF (IPv6 in less than 1280, `ignore_df`).
    SendAnyway,
    /// An Ethernet frame that does not fit a DF tunnel: dropped.
    Drop,
}

/// Judges one inner packet of *len* bytes against the largest that the path takes.
pub fn fit(_options: &crate::options::Options, _inner: &[u8], _len: usize, _mtu: usize) -> Fit {
    unimplemented!()
}

/// Cuts an IPv4 packet into fragments of at most *mtu* bytes; calls *emit* with each, in order. Options that must not be copied are left
/// out of all but the first. False when it cannot be cut (malformed, or mtu too small).
pub fn fragment_ipv4(_packet: &[u8], _mtu: usize, _emit: &mut dyn FnMut(&[u8])) -> bool {
    unimplemented!()
}

/// How many tunnels deep *inner* is already: headers of protocol 47, 4 or 41 inside each other, counted up to *limit*.
pub fn nesting(_inner: &[u8], _limit: usize) -> usize {
    unimplemented!()
}
