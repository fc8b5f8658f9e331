"""
The boundary between Python and the Rust engine, as Python sees it.

Three groups: `Secret` and the primitives over it; `Engine` with its `Tunnel`s; the events that `Engine.drain` returns.
Everything here releases the GIL where it may wait or works long. Nothing here is called once per data packet.
Import it only through `ginnel.crypto` and `ginnel.engine`.
"""

from typing import Final, Literal, final

__version__: Final[str]
#: True only in the bench build that does not encrypt; the package refuses to run on it unless the bench asks.
UNENCRYPTED: Final[bool]
#: Constants both sides share; a test compares them with `ginnel.wireguard.constants`.
CONSTANTS: Final[dict[str, int]]

# ---------------------------------------------------------------- secrets and primitives

@final
class Secret:
    """32 bytes that live in the engine and are zeroed when dropped. repr, str, pickle and copy never show them."""

    @staticmethod
    def random() -> Secret: ...
    @staticmethod
    def zero() -> Secret: ...
    @staticmethod
    def from_bytes(raw: bytes) -> Secret: ...
    @staticmethod
    def from_base64(text: str) -> Secret:
        """ValueError (which never quotes the text) unless it is the canonical base64 of 32 bytes."""
    @staticmethod
    def from_hex(text: str) -> Secret: ...
    def clamp(self) -> Secret:
        """A clamped copy (RFC 7748), as a private key is stored."""
    def is_zero(self) -> bool: ...
    def __eq__(self, other: object) -> bool:
        """Constant time."""
    def reveal_base64(self) -> str:
        """For the three places that must print a key: `genkey`/`genpsk`, UAPI `get`, `showconf`/`save`."""
    def reveal_hex(self) -> str: ...

class ZeroSecret(ValueError):
    """A Diffie-Hellman result was all zero: the other side sent a low-order point."""

class AuthenticationFailed(ValueError):
    """An AEAD tag did not verify; nothing was decrypted."""

def x25519_public(private: Secret) -> bytes: ...
def x25519(private: Secret, public: bytes) -> Secret:
    """Raises ZeroSecret."""

def blake2s(*parts: bytes | Secret) -> bytes:
    """32-byte BLAKE2s of the concatenation. A Secret among the parts is tau of the handshake; the digest is public."""

def blake2s_mac(key: bytes, *parts: bytes) -> bytes:
    """16-byte keyed BLAKE2s of the concatenation (mac1, mac2)."""

def blake2s_mac_equal(key: bytes, data: bytes, tag: bytes) -> bool:
    """Constant-time verification of `blake2s_mac`."""

def kdf1(chain: Secret, data: bytes | Secret) -> Secret:
    """HKDF with HMAC-BLAKE2s as the paper's Kdf1; likewise kdf2, kdf3."""

def kdf2(chain: Secret, data: bytes | Secret) -> tuple[Secret, Secret]: ...
def kdf3(chain: Secret, data: bytes | Secret) -> tuple[Secret, Secret, Secret]: ...
def aead_seal(key: Secret, counter: int, plaintext: bytes, ad: bytes) -> bytes:
    """ChaCha20-Poly1305 with the 96-bit nonce 0^4 || LE64(counter)."""

def aead_open(key: Secret, counter: int, ciphertext: bytes, ad: bytes) -> bytes:
    """Raises AuthenticationFailed."""

def xaead_seal(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """XChaCha20-Poly1305, 24-byte nonce. The key is public by construction (cookie key)."""

def xaead_open(key: bytes, nonce: bytes, ciphertext: bytes, ad: bytes) -> bytes: ...
def entropy(size_bytes: int) -> bytes:
    """From the operating system; for nonces and jitter, never for keys (those are `Secret.random`)."""

# ---------------------------------------------------------------- IKEv2's primitives

@final
class KeyMaterial:
    """
    Secret bytes of any length up to 64 KiB that live in the engine and are zeroed when dropped. repr, str, pickle and copy never
    show them. A use that *takes* it empties the handle; a second use is a ValueError.
    """

    @staticmethod
    def from_bytes(raw: bytes) -> KeyMaterial: ...
    @staticmethod
    def random(size_bytes: int) -> KeyMaterial: ...
    def __len__(self) -> int: ...
    def __eq__(self, other: object) -> bool:
        """Constant time (lengths are public)."""
    def split(self, *sizes_bytes: int) -> tuple[KeyMaterial, ...]:
        """Consecutive parts; ValueError unless the sizes add up to the length. Takes it."""
    def duplicate(self) -> KeyMaterial: ...
    def reveal(self) -> bytes:
        """For the debug mode that writes keys for tshark, and for nothing else."""

Hash = Literal["sha1", "sha256", "sha384", "sha512"]

def prf(hash: Hash, key: bytes | KeyMaterial, *parts: bytes | KeyMaterial) -> KeyMaterial:
    """HMAC of the concatenation, as a secret (SKEYSEED, the padded PSK)."""

def prf_public(hash: Hash, key: bytes | KeyMaterial, *parts: bytes | KeyMaterial) -> bytes:
    """HMAC of the concatenation, for what is sent or signed: AUTH, the ID's MAC."""

def prf_plus(hash: Hash, key: KeyMaterial, seed: bytes | KeyMaterial, size_bytes: int) -> KeyMaterial:
    """prf+ of RFC 7296 2.13; ValueError beyond 255 blocks. A KeyMaterial in *seed* is g^ir || Ni || Nr of a PFS child."""

def concat(*parts: bytes | KeyMaterial) -> KeyMaterial: ...
def bytes_equal(left: bytes, right: bytes) -> bool:
    """Constant time: AUTH values."""

def digest(hash: Hash, *parts: bytes) -> bytes:
    """A hash of what is public: NAT detection, key ids, cookies' inputs."""

class InvalidPublicValue(ValueError):
    """The peer's Diffie-Hellman value has the wrong length, is out of range, not on the curve, or gives zero (RFC 6989, 8031)."""

@final
class KeyExchange:
    """
    One side of a Diffie-Hellman exchange, used once.

    group: IANA's number: 2, 5, 14, 15, 16, 17, 18 (MODP), 19, 20, 21 (ECP), 31 (X25519). ValueError for others. The GIL is
    released while
    it computes.
    """

    def __init__(self, group: int) -> None: ...
    @property
    def group(self) -> int: ...
    @property
    def public(self) -> bytes:
        """As KE payloads carry it (RFC 7296 3.4, RFC 5903: x || y, RFC 8031)."""
    def agree(self, peer: bytes) -> KeyMaterial:
        """
        g^ir as SKEYSEED takes it (ECP: x alone; MODP: padded to the group's length). InvalidPublicValue. A second use is a
        ValueError.
        """

@final
class IkeCipher:
    """
    Encryption of IKE messages, one direction of one IKE SA.

    suite: ESP's names: "aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha512", ... ("aes192…" as
    well; "…-sha1"). *key* with the salt
    where there is one (RFC 5282); *integrity* empty for AEAD. Both are taken.
    """

    def __init__(self, suite: str, key: KeyMaterial, integrity: KeyMaterial) -> None: ...
    def sealed_size(self, plaintext_size: int) -> int:
        """Bytes of `seal`'s result: IV, padded ciphertext, checksum."""
    def seal(self, associated: bytes, plaintext: bytes) -> bytes:
        """
        IV || ciphertext || checksum. Adds padding and its length; *associated* is the message from the IKE header to the end of
        the generic header of SK (or of the fragment's numbers of SKF), with its final lengths.
        """
    def open(self, associated: bytes, sealed: bytes) -> bytes:
        """The plaintext without padding; AuthenticationFailed."""

# ---------------------------------------------------------------- events

@final
class Source:
    """Where a datagram came from and to which local address: opaque to Python but for its parts; hashable."""

    packed: Final[bytes]
    port: Final[int]
    scope_id: Final[int]

@final
class HandshakeReceived:
    """A type 1, 2 or 3 datagram that passed length, MAC1 and the load gate. For types 2 and 3 the index was one of ours."""

    __match_args__: Final = ("tunnel", "message", "source")
    tunnel: Final[int]
    message: Final[bytes]
    source: Final[Source]

@final
class SessionNeeded:
    """
    The engine wants a handshake with *peer*. Sent at most once until a session is installed, or `attempt_over` is called.

    reason: "packets" (data waits and no valid key) · "ageing" (120 s or 2^60 messages on a session we initiated, or
    165 s on receive) · "silent" (data was sent, nothing came back for 15 s; the source address was cleared) · "keepalive".
    """

    __match_args__: Final = ("tunnel", "peer", "reason")
    tunnel: Final[int]
    peer: Final[int]
    reason: Final[Literal["packets", "ageing", "silent", "keepalive"]]

@final
class SessionConfirmed:
    """The first authenticated packet arrived under a session we answered: the responder's handshake is complete."""

    __match_args__: Final = ("tunnel", "peer", "index")
    tunnel: Final[int]
    peer: Final[int]
    index: Final[int]

@final
class EndpointChanged:
    """An authenticated packet came from a new address (roaming)."""

    __match_args__: Final = ("tunnel", "peer")
    tunnel: Final[int]
    peer: Final[int]

@final
class DeviceGone:
    """The TUN device was deleted, or a worker of the tunnel ended; *reason* says which."""

    __match_args__: Final = ("tunnel", "reason")
    tunnel: Final[int]
    reason: Final[str]

@final
class ControlReceived:
    """
    A GRE keepalive for tunnel *tunnel*: its own that came back, or the peer's that wants an answer. At most 50 a second for
    each tunnel.

    kind: "returned" · "asked". packet: what was inside the GRE header, at most 128 bytes (for "asked" the whole packet to send
    back).
    """

    __match_args__: Final = ("tunnel", "kind", "protocol", "packet")
    tunnel: Final[int]
    kind: Final[Literal["returned", "asked"]]
    protocol: Final[int]
    packet: Final[bytes]

@final
class PathError:
    """
    An ICMP error that quotes a packet of *tunnel* (addresses, and key or ports where they were quoted). At most 10 a second
    for each
    tunnel; the first of a (kind, code) is never lost.

    kind: "too-big" (mtu is what the router names, of the whole delivery packet; 0 when it names none) · "unreachable" ·
    "time-exceeded" · "other". *origin*: the packed address of the router or host that sent it. local: the kernel itself
    refused (EMSGSIZE).
    """

    __match_args__: Final = ("tunnel", "kind", "code", "mtu", "origin")
    tunnel: Final[int]
    kind: Final[Literal["too-big", "unreachable", "time-exceeded", "other"]]
    code: Final[int]
    mtu: Final[int]
    origin: Final[bytes]

@final
class Mismatch:
    """
    Packets from the tunnel's peer are dropped because the two ends are configured differently. At most once a minute for each
    reason.

    reason: a name from the closed list of drops ("key_mismatch", "checksum_missing", ...). seen: what the peer sends (its key,
    its protocol type, its
    version), None where there is nothing to tell. remote: packed address of the sender.
    """

    __match_args__: Final = ("tunnel", "reason", "seen", "remote")
    tunnel: Final[int]
    reason: Final[str]
    seen: Final[int | None]
    remote: Final[bytes]

@final
class IkeReceived:
    """
    A datagram on an IKE port that is at least an IKE header long and says so itself (length field, major version 2 or another:
    that is
    for the machine to answer). At most 4,096 wait, and each source may have only its share of the queue; what is beyond is
    counted
    in `IkePorts.counters`.

    natt: it came on the NAT traversal port, behind a non-ESP marker (which is cut off).
    """

    __match_args__: Final = ("message", "remote", "remote_port", "local", "natt")
    message: Final[bytes]
    remote: Final[bytes]
    remote_port: Final[int]
    local: Final[bytes]
    natt: Final[bool]

@final
class SaUsed:
    """The first packet that proved genuine came in under inbound SA *spi*: the other side sends with it."""

    __match_args__: Final = ("tunnel", "spi")
    tunnel: Final[int]
    spi: Final[int]

@final
class SaExpiring:
    """
    An SA is near its limit of bytes, packets or sequence numbers (hard False: rekey; told once), or has reached it (hard True: it
    carries no more).
    """

    __match_args__: Final = ("tunnel", "spi", "inbound", "hard")
    tunnel: Final[int]
    spi: Final[int]
    inbound: Final[bool]
    hard: Final[bool]

@final
class SaMissing:
    """Something wants to leave by a protected tunnel that has no outbound SA; it was dropped. Told at once, and now and then."""

    __match_args__: Final = ("tunnel",)
    tunnel: Final[int]

@final
class SaMoved:
    """
    Genuine packets of inbound SA *spi* come from another address or port (a NAT forgot its mapping). Nothing was changed: where
    packets go is the control plane's decision (`set_outbound_path`). Told once for each place.
    """

    __match_args__: Final = ("tunnel", "spi", "remote", "remote_port")
    tunnel: Final[int]
    spi: Final[int]
    remote: Final[bytes]
    remote_port: Final[int]

@final
class UnknownSpi:
    """An ESP packet for an SPI that is none of ours, from anybody at all: at most 10 a second, one for each source in 10 s."""

    __match_args__: Final = ("spi", "remote", "remote_port", "local", "natt")
    spi: Final[int]
    remote: Final[bytes]
    remote_port: Final[int]
    local: Final[bytes]
    natt: Final[bool]

Event = (
    HandshakeReceived
    | SessionNeeded
    | SessionConfirmed
    | EndpointChanged
    | DeviceGone
    | ControlReceived
    | PathError
    | Mismatch
    | IkeReceived
    | SaUsed
    | SaExpiring
    | SaMissing
    | SaMoved
    | UnknownSpi
)

# ---------------------------------------------------------------- engine

@final
class PeerCounters:
    """One peer as the engine sees it, from `Tunnel.counters`."""

    peer: Final[int]
    rx_bytes: Final[int]
    tx_bytes: Final[int]
    rx_packets: Final[int]
    tx_packets: Final[int]
    endpoint: Final[tuple[bytes, int, int] | None]
    #: CLOCK_BOOTTIME ns of the last authenticated receive and of the last send; 0 = never.
    last_receive_ns: Final[int]
    last_send_ns: Final[int]
    staged: Final[int]
    #: "none" | "current" | "next" : which session exists; and the age of the current one, ns (0 without one).
    session: Final[str]
    session_age_ns: Final[int]

@final
class Engine:
    """All tunnels of one process, one eventfd, one batch of events. Refuses to be used after a fork."""

    def __init__(self) -> None: ...
    @property
    def eventfd(self) -> int:
        """Readable when `drain` has something; level-triggered; owned by the engine."""
    def drain(self, limit: int = 256) -> list[Event]: ...
    def wireguard(
        self,
        name: str,
        *,
        mtu: int = 1420,
        tun_fd: int | None = None,
        tun_offload: bool = True,
        udp_offload: bool = True,
    ) -> Tunnel:
        """
        Make (or adopt by *tun_fd*) the TUN device *name* and a WireGuard tunnel on it; down until `up`.

        Raises OSError with the errno of the step that failed; `.filename` names the step ("/dev/net/tun", "TUNSETIFF wg0").
        """
    def plain(
        self,
        name: str,
        *,
        kind: Literal["gre", "gretap", "ipip", "sit", "ip6tnl", "ipsec"],
        local: bytes | None,
        remote: bytes | None,
        ikey: int | None = None,
        okey: int | None = None,
        icsum: bool = False,
        ocsum: bool = False,
        iseq: bool = False,
        oseq: bool = False,
        ttl: int = 0,
        tos: int = 0,
        tos_inherit: bool = False,
        pmtudisc: bool = True,
        ignore_df: bool = False,
        encaplimit: int | None = None,
        flowlabel: int | None = None,
        udp: tuple[int, int, int] | None = None,
        tolerant: bool = False,
        fwmark: int = 0,
        device: int = 0,
        mtu: int = 1476,
        tun_fd: int | None = None,
        tun_offload: bool = True,
        udp_offload: bool = True,
        protected: bool = False,
    ) -> PlainTunnel:
        """
        Make the device *name* (TUN; TAP for gretap) and a tunnel on it; down until `up`.

        *protected* (always for "ipsec", whose packets have no encapsulation but ESP's tunnel mode): nothing leaves but under an
        outbound SA and nothing comes in but under an inbound one, from the first packet to the last. What arrives unprotected is
        dropped, and counted ("unprotected") where both ends are known and a plain tunnel has a socket that sees it. Such a
        tunnel opens no socket of its own: its SAs name the path, `IkePorts` has the sockets (and its fwmark and device hold).
        "ipsec" needs neither *local* nor *remote*. Without an SA senders are told "host unreachable".

        All plain tunnels of a process share two threads, and those with the same underlay (family, protocol or port, fwmark,
        device) their
        sockets. *udp*: (listen port, source port or 0 for flow entropy, destination port or 0 for learned). *device*: index of
        the
        underlay device or 0. *local* None: the route's choice; *remote* None: any.

        Raises OSError as `wireguard` does; FileExistsError (filename: the other tunnel's name) when two could not be told apart.
        """
    def ike(
        self,
        *,
        port: int = 500,
        natt_port: int = 4500,
        fwmark: int = 0,
        device: int = 0,
        families: tuple[int, ...] = (4, 6),
        udp_offload: bool = True,
    ) -> IkePorts:
        """
        Open what IKE and ESP use, once a process: both UDP ports and protocol 50 of each family, for as long as it lives.
        OSError: EADDRINUSE (filename: "UDP port 500
        over IPv4") when another IKE daemon runs here, EPERM without the right to raw sockets.
        """
    def carrier(self) -> CarrierCounters:
        """What concerns no single tunnel: packets for none of them, packets lost at the sockets, sockets open."""
    def close(self) -> None:
        """End all tunnels and their threads; idempotent."""

@final
class Tunnel:
    """
    One WireGuard interface. Peers are named by the int that `add_peer` returns; it is never used again.

    All methods may be called in any state; a peer that is gone is a KeyError.
    """

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def tun_fd(self) -> int:
        """The TUN descriptor, still owned by the engine: for TUNGETDEVNETNS and the like, never to be closed."""
    @property
    def is_up(self) -> bool: ...
    def close(self) -> None:
        """Stop both threads, close the sockets and the device (which deletes it)."""
    # -- interface
    def up(self) -> None:
        """Open the sockets (OSError EADDRINUSE when the port is taken), start timers; peers with a keepalive speak at once."""
    def down(self) -> None:
        """Close sockets, purge staged packets, stop timers, zero all sessions."""
    def set_private_key(self, key: Secret | None) -> None:
        """For MAC1 and the cookie key; sessions are not touched (see `expire_session`)."""
    def set_listen_port(self, port: int) -> None:
        """Live: rebinds when up, keeps sessions. OSError EADDRINUSE leaves the old sockets as they were."""
    @property
    def listen_port(self) -> int:
        """The bound port while up, else the configured one."""
    def set_fwmark(self, mark: int) -> None: ...
    def set_mtu(self, mtu: int) -> None:
        """Padding is clamped to it."""
    def clear_sources(self) -> None:
        """Forget all sticky source addresses (routes or addresses of the host changed)."""
    # -- peers
    def add_peer(self, public_key: bytes) -> int:
        """A new peer's number. Of the key only the size is checked: whose it is, is the handshake's business."""
    def remove_peer(self, peer: int) -> None: ...
    def set_endpoint(self, peer: int, packed: bytes, port: int, scope_id: int = 0) -> None: ...
    def set_keepalive(self, peer: int, interval_s: int) -> None:
        """0 = off. Turned on from 0 while up: one is sent at once."""
    def set_allowed_ips(self, peer: int, prefixes: list[tuple[bytes, int]], replace: bool) -> None:
        """Each prefix moves here from whichever peer held it."""
    def remove_allowed_ips(self, peer: int, prefixes: list[tuple[bytes, int]]) -> None: ...
    def allowed_ips(self, peer: int) -> list[tuple[bytes, int]]: ...
    def flush(self, peer: int) -> None:
        """Send what is staged (asks for a session when there is none); after configuring a peer."""
    # -- sessions: the handshake's hands
    def reserve_index(self, peer: int) -> int:
        """A random u32, unique among live handshakes and sessions; type 2 and 3 datagrams for it are now let through."""
    def release_index(self, index: int) -> None:
        """Idempotent; an index that became a session is released with the session."""
    def install_session(
        self, peer: int, local_index: int, remote_index: int, send: Secret, receive: Secret, initiator: bool
    ) -> None:
        """
        Start a session; both Secrets are taken (a second use raises ValueError: no key ever seals twice).

        Initiator: becomes current; staged packets go out, or an empty keepalive when there are none.
        Responder: becomes next, and current with the first authenticated packet.
        """
    def send_handshake(self, peer: int, message: bytes) -> None:
        """
        To the peer's endpoint, DSCP AF41, sticky source; counts as authenticated traversal. OSError EDESTADDRREQ when
        it has none.
        """
    def handshake_received(self, peer: int, source: Source, size_bytes: int) -> None:
        """A type 1 or 2 datagram was authenticated: roam, count bytes, authenticated traversal."""
    def handshake_outcome(self, source: Source, genuine: bool) -> None:
        """Tell the load gate whether a type 1 from *source* proved to be from one of our peers."""
    def attempt_over(self, peer: int, purge: bool) -> None:
        """The handshake attempt was given up (or refused): purge staged packets if asked, and allow SessionNeeded again."""
    def clear_source(self, peer: int) -> None: ...
    def stop_keepalive_timer(self, peer: int) -> None:
        """Delete the passive keepalive timer (a handshake was given up)."""
    def expire_session(self, peer: int) -> None:
        """Make the sending session unusable so that the next packet starts a handshake (the private key changed)."""
    def zero_sessions(self, peer: int) -> None:
        """Drop and zero all sessions of the peer (zero_key_material)."""
    # -- reading
    def counters(self) -> list[PeerCounters]:
        """All peers in one call, in the order in which they were added."""
    def peer_counters(self, peer: int) -> PeerCounters: ...
    def drops(self) -> dict[str, int]:
        """Dropped packets by reason: every reason of the closed list, zeros included."""
    def offloads(self) -> dict[str, str]:
        """For tun_tcp, tun_udp, udp_gso, udp_gro, socket_filter, aead: "on", or why not; for aead, which."""

@final
class PlainCounters:
    """One plain tunnel, from `PlainTunnel.counters`. Packets and bytes are those of the inner side, as Linux counts them."""

    rx_packets: Final[int]
    rx_bytes: Final[int]
    tx_packets: Final[int]
    tx_bytes: Final[int]
    #: CLOCK_BOOTTIME ns of the last packet admitted and of the last sent; 0 = never.
    last_receive_ns: Final[int]
    last_send_ns: Final[int]
    #: Where packets go now: (packed address, UDP port or 0), None while unknown.
    remote: Final[tuple[bytes, int] | None]
    #: Sequence numbers: the next to send, the next expected (None before the first, or without iseq).
    sequence_out: Final[int]
    sequence_in: Final[int | None]

@final
class CarrierCounters:
    """What the shared half of all plain tunnels counted."""

    #: Packets of our protocols that no tunnel here is for (another program's, or nobody's).
    no_tunnel: Final[int]
    #: Dropped by the kernel because a socket's buffer was full.
    at_socket: Final[int]
    #: One line a socket: ("gre over IPv4", "on" or why it is not as fast as it could be).
    sockets: Final[dict[str, str]]

@final
class PlainTunnel:
    """
    One tunnel without protection: GRE, GRETAP, IP in IP, GRE in UDP. All methods may be called in any state.
    """

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def tun_fd(self) -> int:
        """The TUN or TAP descriptor, still owned by the engine."""
    @property
    def is_up(self) -> bool: ...
    def up(self) -> None:
        """
        Open the sockets it needs (OSError EADDRINUSE: the UDP port is another's; EPERM: raw sockets need CAP_NET_RAW) and carry.
        """
    def down(self) -> None: ...
    def close(self) -> None:
        """Out of the demultiplexer, its device deleted; the last to use a socket closes it."""
    def set_mtu(self, mtu: int) -> None:
        """The device's MTU, as the kernel has it."""
    def set_path_mtu(self, mtu: int) -> None:
        """
        The largest inner packet that the path takes, as learned; 0 = not learned. What is larger is fragmented or answered by
        ICMP.
        """
    def set_hold(self, held: bool) -> None:
        """While held nothing from the device is sent (drop reason "held"); what arrives still comes in."""
    def set_unreachable(self, packets: int, until_ns: int) -> None:
        """The next *packets* senders, until then, are told host-unreachable by ICMP (their packets are sent all the same)."""
    def set_ends(self, local: bytes | None, remote: bytes | None) -> None:
        """
        Other ends for the same tunnel (an address changed, a name was resolved anew). FileExistsError as for `Engine.plain`.
        """
    def send_control(self, protocol: int, payload: bytes) -> None:
        """One packet of ours through the tunnel: delivery header, GRE header with *protocol*, *payload* (at most 9216 bytes)."""
    def send_back(self, packet: bytes) -> None:
        """
        Send a finished IP packet of the peer's, as it wants it back. ValueError unless it goes from our end to the peer's and
        is GRE.
        """
    def counters(self) -> PlainCounters: ...
    def drops(self) -> dict[str, int]:
        """
        Dropped packets by reason, zeros included: not_ip, wrong_family, malformed, looped, nested, held, down, no_remote,
        too_big, send_failed, header_truncated, version, routing, key_mismatch, checksum_missing, checksum_unexpected,
        checksum_wrong, sequence_missing, out_of_order, unknown_protocol, inner_malformed, ecn, joined, control_limited,
        device_write, no_sa, no_selector, sa_exhausted, unprotected, replayed, too_old, bad_icv, esp_malformed, wrong_mode,
        selectors, expired_sa, dummy.

        Those from no_sa on are of protected tunnels alone; dummy (next header 59) is no fault.
        What each means stands at its place in `rust/engine/src/carrier/drops.rs`.
        """
    def offloads(self) -> dict[str, str]:
        """For tun_tcp, tun_udp, udp_gso, udp_gro, raw: "on", or why not; "raw" names how raw packets are sent and received."""
    # -- protection; ValueError unless the tunnel is protected
    def reserve_spi(self) -> int:
        """A random SPI, 256 or greater, that is no inbound SA's and nobody else's reservation; 10 min unless it becomes one."""
    def release_spi(self, spi: int) -> None: ...
    def add_inbound(
        self,
        spi: int,
        *,
        suite: str,
        key: KeyMaterial,
        integrity: KeyMaterial,
        transport: bool,
        esn: bool = False,
        replay_window: int = 1024,
        selectors: list[tuple[int, int, int, bytes, bytes, int, int, bytes, bytes]] = [],
        soft_bytes: int = 0,
        hard_bytes: int = 0,
        soft_packets: int = 0,
        hard_packets: int = 0,
        hard_ns: int = 0,
        sequence: int = 0,
    ) -> None:
        """
        From now on packets with *spi* come in by this tunnel. At most four at a time: OSError ENOBUFS.

        suite, key, integrity: as for `IkeCipher`; the keys are taken. selectors: (protocol or 0, first and last source port,
        first and last source address, first and last destination port, first and last destination address) of what may come in,
        as it is seen on arrival (in transport mode in UDP addresses are not looked at: a NAT has the say over them); empty:
        anything (the tunnel's own checks hold all the same). Limits: 0 is none; hard_ns: CLOCK_BOOTTIME.
        replay_window: 0 (none, only without ESN) … 65536. sequence: numbers up to this one count as received (0: a new SA).
        ValueError for keys of another size than the suite's, and for an SPI that is in use.
        """
    def remove_inbound(self, spi: int) -> None:
        """Idempotent."""
    def set_outbound(
        self,
        spi: int,
        *,
        suite: str,
        key: KeyMaterial,
        integrity: KeyMaterial,
        transport: bool,
        esn: bool = False,
        local: bytes,
        remote: bytes,
        local_port: int = 0,
        remote_port: int = 0,
        selectors: list[tuple[int, int, int, bytes, bytes, int, int, bytes, bytes]] = [],
        dscp: bool = True,
        df: Literal["copy", "set", "clear"] = "copy",
        soft_bytes: int = 0,
        hard_bytes: int = 0,
        soft_packets: int = 0,
        hard_packets: int = 0,
        hard_ns: int = 0,
        sequence: int = 0,
    ) -> None:
        """
        From the next packet on everything leaves under this SA; the one before is dropped, its keys zeroed.

        remote_port 0: raw protocol 50; else in UDP from *local_port*, which is the NAT traversal port (ValueError). selectors:
        as for inbound, of what may leave; what matches none is dropped ("no_selector"). dscp: copied out (tunnel mode). df:
        tunnel mode, IPv4.
        For GRE in tunnel mode the delivery header inside is the tunnel's own (local, remote of `Engine.plain`); ESP's is of
        this SA's path. sequence: numbers up to this one are used up (0: a new SA). ValueError: transport mode for "ipsec".
        """
    def set_outbound_path(self, local: bytes, remote: bytes, local_port: int, remote_port: int) -> None:
        """The same SA by another path; KeyError without an SA."""
    def clear_outbound(self) -> None:
        """Nothing leaves until `set_outbound`. Idempotent."""
    def associations(self) -> list[SaCounters]:
        """The outbound SA first, if there is one, then the inbound ones, oldest first."""

@final
class SaCounters:
    """One ESP SA as the engine sees it. Bytes are those of the protected payload."""

    spi: Final[int]
    inbound: Final[bool]
    packets: Final[int]
    bytes: Final[int]
    #: The last number sent, or the greatest received (with ESN 64 bits).
    sequence: Final[int]
    #: CLOCK_BOOTTIME ns; 0 = never.
    last_ns: Final[int]
    #: Inbound: dropped packets of this SA alone: replayed, too_old, bad_icv, malformed, selectors.
    drops: Final[dict[str, int]]

@final
class IkePorts:
    """IKE's and ESP's sockets of one process, beside the carrier that serves them."""

    @property
    def port(self) -> int: ...
    @property
    def natt_port(self) -> int: ...
    def send(self, message: bytes, *, local: bytes | None, remote: bytes, remote_port: int, natt: bool) -> None:
        """
        One datagram; with *natt* from the NAT traversal port, behind a non-ESP marker. OSError as the network says: the machine
        repeats it in any case.
        """
    def send_keepalive(self, *, local: bytes | None, remote: bytes, remote_port: int) -> None:
        """The one byte 0xFF of RFC 3948, which keeps a NAT's mapping alive."""
    def counters(self) -> dict[str, int]:
        """
        received, sent, truncated (shorter than an IKE header), beyond_share, queue_full, keepalives, unknown_spi, at_socket.
        """
    def close(self) -> None: ...

# ---------------------------------------------------------------- lab

@final
class Relay:
    """
    A user-space link between two TAP devices or AF_PACKET-bound interfaces that loses, delays, reorders, duplicates and blocks,
    deterministically from a seed. One thread; frames in flight are bounded.
    """

    def __init__(self, left: str, right: str, *, seed: int = 1) -> None: ...
    def configure(
        self,
        *,
        loss: float = 0.0,
        delay_ms: float = 0.0,
        jitter_ms: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        blocked_protocols: list[int] = [],
        blocked_udp_ports: list[int] = [],
        blocked_too_big: bool = False,
        mtu: int = 0,
    ) -> None:
        """The same faults both ways, from now on. *blocked_too_big*: the ICMP that path MTU discovery lives on."""
    def counters(self) -> dict[str, int]: ...
    def close(self) -> None: ...
