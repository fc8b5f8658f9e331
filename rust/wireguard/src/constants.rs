//! Every number of the protocol, once.
//!
//! Times are nanoseconds, counts are plain. Where the paper (section 6.1), the Linux kernel (`messages.h`, `peer.h`) and
//! wireguard-go differ, the line says which one is followed and why. Python holds the same table; a test compares them.

/// One second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;
/// One millisecond in nanoseconds.
pub const MILLISECOND_NS: u64 = 1_000_000;

/// A session older than this many messages asks for the next one (paper 6.1).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// A counter of this value or above is neither sent nor accepted. The paper and wireguard-go; the kernel's own limit is
/// 63 above, and no peer ever gets there.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// The initiator of a session asks for the next one when sending after this time.
pub const REKEY_AFTER_TIME_NS: u64 = 120 * SECOND_NS;
/// Keys are unusable in both directions after this time.
pub const REJECT_AFTER_TIME_NS: u64 = 180 * SECOND_NS;
/// An initiation is repeated after this time plus jitter, and never sent sooner than this after the last.
pub const REKEY_TIMEOUT_NS: u64 = 5 * SECOND_NS;
/// Largest jitter added to a handshake timer: a third of a second, as the kernel's `HZ / 3`.
pub const REKEY_TIMEOUT_JITTER_MAX_NS: u64 = 333 * MILLISECOND_NS;
/// How long initiations are repeated before giving up.
pub const REKEY_ATTEMPT_TIME_NS: u64 = 90 * SECOND_NS;
/// Repetitions that fit `REKEY_ATTEMPT_TIME_NS`; an attempt ends when more than this many were made.
pub const MAX_TIMER_HANDSHAKES: u32 = 18;
/// Silence after which received data is answered by an empty packet.
pub const KEEPALIVE_TIMEOUT_NS: u64 = 10 * SECOND_NS;
/// The initiator asks for the next session when *receiving* after this time: one keepalive and one handshake before the end.
pub const REKEY_ON_RECEIVE_TIME_NS: u64 =
    REJECT_AFTER_TIME_NS - KEEPALIVE_TIMEOUT_NS - REKEY_TIMEOUT_NS;
/// Data sent and nothing heard for this long (plus jitter) starts a handshake.
pub const NEW_HANDSHAKE_TIME_NS: u64 = KEEPALIVE_TIMEOUT_NS + REKEY_TIMEOUT_NS;
/// All keys of a peer are zeroed this long after its last session.
pub const ZERO_KEY_MATERIAL_TIME_NS: u64 = 3 * REJECT_AFTER_TIME_NS;

/// Age at which the secret behind cookies is replaced; a cookie of the old secret is worthless from then on.
pub const COOKIE_SECRET_MAX_AGE_NS: u64 = 120 * SECOND_NS;
/// A sender stops using a cookie this much before the secret's age, for the time on the way.
pub const COOKIE_SECRET_LATENCY_NS: u64 = 5 * SECOND_NS;
/// Least time between two initiations of one peer that are consumed: 50 a second.
pub const INITIATION_INTERVAL_NS: u64 = SECOND_NS / 50;
/// Handshakes a second that one source may have under load (kernel `ratelimiter.c`).
pub const SOURCE_RATE_PER_SECOND: u64 = 20;
/// ... and how many of them at once.
pub const SOURCE_BURST: u64 = 5;

/// Handshakes that may wait for the control plane.
pub const MAX_QUEUED_HANDSHAKES: usize = 4096;
/// From this many on the interface is under load.
pub const UNDER_LOAD_HANDSHAKES: usize = MAX_QUEUED_HANDSHAKES / 8;
/// How long load is remembered.
pub const UNDER_LOAD_STICKY_NS: u64 = SECOND_NS;
/// Packets that wait for a session of one peer; the oldest is dropped.
pub const MAX_STAGED_PACKETS: usize = 128;
/// Plaintext is padded with zeros to a multiple of this, but not beyond the MTU.
pub const PADDING_MULTIPLE: usize = 16;

/// Message types: the first four bytes of a datagram, little-endian, so that non-zero reserved bytes are an unknown type.
pub const TYPE_INITIATION: u32 = 1;
/// See `TYPE_INITIATION`.
pub const TYPE_RESPONSE: u32 = 2;
/// See `TYPE_INITIATION`.
pub const TYPE_COOKIE_REPLY: u32 = 3;
/// See `TYPE_INITIATION`.
pub const TYPE_DATA: u32 = 4;

/// Bytes of an initiation.
pub const INITIATION_SIZE: usize = 148;
/// Bytes of a response.
pub const RESPONSE_SIZE: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_SIZE: usize = 64;
/// Bytes before the ciphertext of a data message: type, receiver index, counter.
pub const DATA_HEADER_SIZE: usize = 16;
/// Least data message: header and tag, a keepalive.
pub const DATA_MIN_SIZE: usize = 32;
/// Bytes of mac1, of mac2 and of a cookie.
pub const MAC_SIZE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_paper() {
        assert_eq!(
            u128::from(REJECT_AFTER_MESSAGES),
            (1_u128 << 64) - (1 << 13) - 1
        );
        assert_eq!(u128::from(REKEY_AFTER_MESSAGES), 1_u128 << 60);
        assert_eq!(REKEY_ON_RECEIVE_TIME_NS, 165 * SECOND_NS);
        assert_eq!(NEW_HANDSHAKE_TIME_NS, 15 * SECOND_NS);
        assert_eq!(ZERO_KEY_MATERIAL_TIME_NS, 540 * SECOND_NS);
        assert_eq!(
            u64::from(MAX_TIMER_HANDSHAKES),
            REKEY_ATTEMPT_TIME_NS / REKEY_TIMEOUT_NS
        );
        assert_eq!(UNDER_LOAD_HANDSHAKES, 512);
    }
}
