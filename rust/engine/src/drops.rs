//! Why packets are dropped: one closed list for each sort of tunnel, one counter each. This is that of WireGuard.

macro_rules! reasons {
    ($reason:ident, $counters:ident: $($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Each dropped packet has exactly one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $reason { $($(#[$doc])* $variant,)* }

        impl $reason {
            /// Names as they are shown, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }

        /// The counters of one tunnel.
        pub struct $counters([::std::sync::atomic::AtomicU64; $reason::NAMES.len()]);

        impl $counters {
            pub fn new() -> Self {
                Self(::std::array::from_fn(|_| ::std::sync::atomic::AtomicU64::new(0)))
            }

            pub fn count(&self, reason: $reason, packets: u64) {
                self.0[reason as usize].fetch_add(packets, ::std::sync::atomic::Ordering::Relaxed);
            }

            pub fn read(&self) -> Vec<(&'static str, u64)> {
                $reason::NAMES
                    .iter()
                    .zip(&self.0)
                    .map(|(name, count)| (*name, count.load(::std::sync::atomic::Ordering::Relaxed)))
                    .collect()
            }
        }

        impl Default for $counters {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

pub(crate) use reasons;

reasons! {
    Drop, Drops:
    /// From the device: neither IPv4 nor IPv6, or a header that contradicts its length.
    NotIp = "not_ip",
    /// From the device: no peer's allowed IPs cover the destination (answered with ICMP).
    NoPeer = "no_peer",
    /// From the device: the peer has no endpoint yet (answered with ICMP).
    NoEndpoint = "no_endpoint",
    /// From the device: our own datagram to this very peer; a route leads its endpoint into the tunnel, and it would go round for ever.
    Looped = "looped",
    /// From the device: a super-packet that its own header does not describe.
    Malformed = "malformed",
    /// Waiting for a session: the oldest gives way when 128 wait.
    StagedOverflow = "staged_overflow",
    /// Waiting for a session that did not come within 90 s, or the interface went down.
    StagedPurged = "staged_purged",
    /// The interface is down.
    Down = "down",
    /// The kernel refused to send (no route, prohibited, no memory).
    SendFailed = "send_failed",
    /// The session's counter is used up.
    CounterLimit = "counter_limit",
    /// From the network: longer than any datagram of ours.
    Truncated = "truncated",
    /// From the network: not a message of the protocol.
    UnknownType = "unknown_type",
    /// From the network: a length that the type does not have.
    BadLength = "bad_length",
    /// From the network: an index that no handshake or session of ours has.
    UnknownIndex = "unknown_index",
    /// A handshake message whose MAC1 is not for our key.
    BadMac1 = "bad_mac1",
    /// A handshake message while the interface has no private key.
    NoPrivateKey = "no_private_key",
    /// A handshake message from a source over its share.
    RateLimited = "rate_limited",
    /// A handshake message that was answered with a cookie.
    CookieAsked = "cookie_asked",
    /// The queue of handshakes is full.
    Overload = "overload",
    /// A data message under a session that is over 180 s old.
    SessionExpired = "session_expired",
    /// A data message whose tag does not verify.
    AuthenticationFailed = "authentication_failed",
    /// A data message that was received before, or too long after its neighbours.
    Replay = "replay",
    /// A decrypted packet that is neither IPv4 nor IPv6, or shorter than it says.
    InnerMalformed = "inner_malformed",
    /// A decrypted packet whose source belongs to another peer, or to none.
    SourceNotAllowed = "source_not_allowed",
    /// The device refused the packet (it is down, or being deleted).
    DeviceWrite = "device_write",
    /// The kernel dropped it at the socket: what the filter refuses (no WireGuard message, a flooding address), or a full buffer.
    AtSocket = "at_socket",
}
