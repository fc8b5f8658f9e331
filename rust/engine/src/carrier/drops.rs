//! Why packets of plain and protected tunnels are dropped: one closed list, one counter each.

use crate::drops::reasons;

reasons! {
    PlainDrop, PlainDrops:
    /// From the device: neither IPv4 nor IPv6, or a header that contradicts its length.
    NotIp = "not_ip",
    /// From the device: a family that this kind does not carry (IPv6 into ipip, IPv4 into sit).
    WrongFamily = "wrong_family",
    /// From the device: a super-packet that its own header does not describe.
    Malformed = "malformed",
    /// From the device: our own delivery packet; a route leads the tunnel's far end into the tunnel, and it would go round for ever.
    Looped = "looped",
    /// From the device: more tunnels inside each other than are sent on.
    Nested = "nested",
    /// From the device, while the control plane holds the tunnel.
    Held = "held",
    /// The tunnel is down.
    Down = "down",
    /// From the device: there is no peer to send to yet, or no way to it (no route, no source address).
    NoRemote = "no_remote",
    /// From the device: larger than the path takes; answered with ICMP where that is allowed.
    TooBig = "too_big",
    /// The kernel refused to send (prohibited, no memory, a full buffer).
    SendFailed = "send_failed",
    /// From the network: shorter than its GRE header says.
    HeaderTruncated = "header_truncated",
    /// From the network: a GRE version that is not 0.
    Version = "version",
    /// From the network: the Routing bit.
    Routing = "routing",
    /// From the network: from our peer, with another key than ours, or with or without one.
    KeyMismatch = "key_mismatch",
    /// From the network: without the checksum that `icsum` wants.
    ChecksumMissing = "checksum_missing",
    /// From the network: with a checksum, though `icsum` is off.
    ChecksumUnexpected = "checksum_unexpected",
    /// From the network: a checksum that does not verify.
    ChecksumWrong = "checksum_wrong",
    /// From the network: without the sequence number that `iseq` wants.
    SequenceMissing = "sequence_missing",
    /// From the network: an older sequence number than expected.
    OutOfOrder = "out_of_order",
    /// From the network: a protocol type that this tunnel does not carry.
    UnknownProtocol = "unknown_protocol",
    /// From the network: what is inside is not what the header says, or shorter than it says.
    InnerMalformed = "inner_malformed",
    /// From the network: a CE mark on the outside of a packet that cannot carry it (RFC 6040).
    Ecn = "ecn",
    /// From the network: UDP datagrams (for a device without offloads, TCP segments) that a kernel has joined: they cannot be told apart.
    Joined = "joined",
    /// A keepalive over the tunnel's share of the control plane.
    ControlLimited = "control_limited",
    /// The device refused the packet (it is down, or being deleted).
    DeviceWrite = "device_write",
    /// Protected, from the device: there is no SA to send by.
    NoSa = "no_sa",
    /// Protected, from the device: nothing that the SA was negotiated for.
    NoSelector = "no_selector",
    /// Protected, from the device: the SA's numbers are used up, or a hard limit is met.
    SaExhausted = "sa_exhausted",
    /// Protected, from the network: without protection.
    Unprotected = "unprotected",
    /// Protected, from the network: seen already.
    Replayed = "replayed",
    /// Protected, from the network: before the replay window.
    TooOld = "too_old",
    /// Protected, from the network: not genuine.
    BadIcv = "bad_icv",
    /// Protected, from the network: no ESP packet of this SA's form, or no IP packet where one must be.
    EspMalformed = "esp_malformed",
    /// Protected, from the network: inside is not what this tunnel and its SA carry (another encapsulation, a fragment of one).
    WrongMode = "wrong_mode",
    /// Protected, from the network: inside is nothing that the SA was negotiated for, or a delivery packet between other ends.
    Selectors = "selectors",
    /// Protected, from the network: the SA is beyond a hard limit.
    ExpiredSa = "expired_sa",
    /// Protected, from the network: sent to hide that nothing was sent (next header 59). No fault.
    Dummy = "dummy",
}
