"""
What is wrong with a `[tunnel.NAME.ipsec]` whose values are all well formed; and the `IpsecConfig` that it is.

Each rule is one `yield` with its reason: what would come up and then not work, would protect less than it says, or could never
prove anything. Refused is also what means nothing, since whoever wrote it meant something.

What is left out: `auth` follows from the files that are given (a psk-file, a certificate-file, or a private-key-file with a
peer-key-file); `start` is "wait" where the remote is any. A relative path lies beside the node file.

Source: RFC 4301, 4.4.1 and 5; RFC 4303, 3.3.3 (no replay window, no ESN); Cisco document 64565 (keepalive and protection).
"""

from __future__ import annotations

import ipaddress
import os.path
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ginnel.config import ipsec_profiles
from ginnel.config.node import IpsecConfig, PlainKind
from ginnel.config.node_values import version_of
from ginnel.config.positions import Path
from ginnel.ikev2 import proposals, selectors
from ginnel.wire.ikev2 import Transform, TransformType

#: Path (its last part; empty: the table), message behind the table's name, hint, whether the key is meant.
Complaint = tuple[str, str, str, bool]

_ANY = {"any", "0.0.0.0", "::"}
_PROTOCOLS = {"gre": 47, "gretap": 47, "ipip": 4, "sit": 41}
_PATHS = ("psk_file", "private_key_file", "peer_key_file")
_PATH_LISTS = ("certificate_files", "ca_files", "crl_files")


@dataclass(slots=True)
class Ipsec:
    """One table while it is checked: what the file gives, by the keys as they are known here, and as they stand there."""

    given: dict[str, Any] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    #: By the names of `IpsecConfig`.
    fields: dict[str, Any] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        return key in self.given

    def path(self, key: str) -> Path:
        return ("ipsec", self.spelled.get(key, key)) if key in self.spelled else ("ipsec",)


@dataclass(frozen=True, slots=True)
class Around:
    """What of the tunnel matters here: its kind, family, ends and the rest of its options."""

    kind: PlainKind
    family: Literal[4, 6]
    local: str
    remote: str
    given: dict[str, Any]
    spelled: dict[str, str]


def of_one(ipsec: Ipsec, around: Around) -> Iterator[Complaint]:
    """What is wrong with the table, or with the tunnel because of it."""
    yield from _proofs(ipsec)
    yield from _mode(ipsec, around)
    yield from _selectors(ipsec, around)
    yield from _peer(ipsec, around)
    yield from _encapsulation(ipsec, around)
    yield from _times(ipsec)


def of_the_tunnel(around: Around) -> Iterator[Complaint]:
    """What is wrong with options of the tunnel because it is protected: here the path is the tunnel's own key."""
    given = around.given
    keepalive = given.get("keepalive")
    if keepalive and keepalive.get("interval_s", 1):
        message = ": the peer would send them back in the clear, or not at all: keepalives and protection exclude each other"
        yield "keepalive", message, "leave it out: IKE watches the peer (dpd in the ipsec table)", True
    if "encapsulation" in given:
        message = ": GRE in UDP inside ESP is one UDP header too many"
        yield "encapsulation", message, 'put encapsulation = "udp" into the ipsec table: then ESP goes in UDP', True


def config(ipsec: Ipsec, around: Around, path: str) -> IpsecConfig:
    """
    The table with every default filled in.

    Args:
        path: of the node file; what is relative lies beside it.
    """
    fields = ipsec_profiles.defaults(ipsec.fields.get("peer", ""), around.kind, around.family) | ipsec.fields
    fields["auth"] = _auth(ipsec) or "psk"
    if around.kind == "ipsec":
        fields["mode"] = "tunnel"
    if around.remote in _ANY:
        fields["start"] = "wait"
    directory = os.path.abspath(os.path.dirname(path))
    for name in _PATHS:
        if fields.get(name):
            fields[name] = os.path.join(directory, fields[name])
    for name in _PATH_LISTS:
        fields[name] = tuple(os.path.join(directory, each) for each in fields.get(name, ()))
    return IpsecConfig(**fields)


# ---------------------------------------------------------------- who proves what


def _auth(ipsec: Ipsec) -> str:
    """How we prove ourselves: as said, or as the files say; empty when they do not."""
    said: str = ipsec.fields.get("auth", "")
    if said:
        return said
    psk, certificate, keys = (ipsec.has(key) for key in ("psk-file", "certificate-file", "peer-key-file"))
    if psk + certificate + keys != 1:
        return ""
    return "psk" if psk else "certificate" if certificate else "public-key"


def _proofs(ipsec: Ipsec) -> Iterator[Complaint]:
    auth = _auth(ipsec)
    if not auth:
        if not any(ipsec.has(key) for key in ("psk-file", "certificate-file", "peer-key-file")):
            hint = 'psk-file = "site.psk", or certificate-file with private-key-file and ca-file'
            yield "", " has nothing to prove ourselves with", hint, True
        else:
            message = ": there are files for several kinds of proof"
            yield "psk-file", message, 'say auth = "psk", "certificate" or "public-key" (and remote-auth for the peer)', True
        return
    remote_auth = ipsec.fields.get("remote_auth") or auth
    kinds = {auth, remote_auth}
    wanted = {
        "psk-file": "psk" in kinds,
        "certificate-file": auth == "certificate",
        "private-key-file": auth in {"certificate", "public-key"},
        "ca-file": remote_auth == "certificate",
        "peer-key-file": remote_auth == "public-key",
    }
    for key, is_wanted in wanted.items():
        if is_wanted and not ipsec.has(key):
            yield "", f" has no {key}, and {_why(key, auth, remote_auth)}", f"add {key}", True
        if not is_wanted and ipsec.has(key):
            how = f"we prove ourselves by {auth}, the peer by {remote_auth}"
            yield key, f" would not be used: {how}", "leave it out, or say auth and remote-auth", True
    if remote_auth != "certificate":
        for key in ("crl-file", "revocation"):
            if ipsec.has(key):
                yield key, " is about certificates, and the peer has none", "leave it out", True
    elif ipsec.fields.get("revocation") == "strict" and not ipsec.has("crl-file"):
        yield "revocation", ': "strict" without a CRL believes nobody', "add crl-file, one for each authority", False


def _why(key: str, auth: str, remote_auth: str) -> str:
    match key:
        case "psk-file":
            return "a shared secret proves somebody here"
        case "certificate-file" | "private-key-file":
            return f"we prove ourselves by {auth}"
        case _:
            return f"the peer proves itself by {remote_auth}"


# ---------------------------------------------------------------- what is carried


def _mode(ipsec: Ipsec, around: Around) -> Iterator[Complaint]:
    mode = ipsec.fields.get("mode", "")
    if around.kind == "ipsec" and mode == "transport":
        message = ": IPsec alone carries packets of others, which is tunnel mode"
        yield "mode", message, 'leave it out; GRE over IPsec is kind = "gre" with this table', False
        return
    profile = ipsec_profiles.PROFILES.get(ipsec.fields.get("peer", ""))
    transport = around.kind != "ipsec" and (mode or (profile.mode if profile else "transport")) == "transport"
    if transport:
        for key in ("copy-dscp", "df"):
            if ipsec.has(key):
                message = " is of tunnel mode: in transport mode the tunnel's own header is the only one"
                yield key, message, "leave it out, or set tos and pmtudisc in the tunnel", True
    if ipsec.fields.get("replay_window") == 0:
        esn = Transform(TransformType.ESN, 1)
        texts = ipsec.fields.get("esp_proposals", ()) or (profile.esp if profile else ())
        offered = proposals.parse_list(texts, "esp") if texts else proposals.default_esp()
        if any(esn in proposal.transforms for proposal in offered):
            hint = 'leave it out, or offer none with esn: esp = "aes256gcm16-x25519"'
            yield "replay-window", ": without a window there can be no extended sequence numbers (ESN)", hint, False


def _selectors(ipsec: Ipsec, around: Around) -> Iterator[Complaint]:
    sides = {
        key: tuple(selectors.parse_words(text) for text in ipsec.fields.get(key.replace("-", "_"), ()))
        for key in ("local-ts", "remote-ts")
    }
    transport = around.kind != "ipsec" and ipsec.fields.get("mode", "transport") == "transport"
    size = 4 if around.family == 4 else 16
    for key, side in sides.items():
        if transport and side and (len(side) > 1 or side[0].first != side[0].last):
            message = ": transport mode is between two hosts: expected one address"
            yield key, message, 'leave it out, or "dynamic"; networks need mode = "tunnel"', False
            continue
        for one in side:
            if around.kind != "ipsec" and one.first is not None and len(one.first) != size:
                found = "IPv4" if len(one.first) == 4 else "IPv6"
                message = f": it is {found}, and the tunnel goes over IPv{around.family}"
                yield key, message, "selectors name the tunnel's ends here", False
            wanted = _PROTOCOLS.get(around.kind, 0)
            if wanted and one.protocol not in {0, wanted}:
                message = f": protocol {one.protocol} is not what {around.kind} sends, which is {wanted}"
                yield key, message, "leave the selectors out: they follow from the kind", False
    local, remote = sides["local-ts"], sides["remote-ts"]
    if local and remote and not any(_go_together(one, other, size) for one in local for other in remote):
        message = ": no selector of ours goes with one of the peer's: families or protocols differ"
        yield "remote-ts", message, "IPv4 goes with IPv4, and a protocol with itself", False


def _go_together(one: selectors.Words, other: selectors.Words, size: int) -> bool:
    families = {len(each.first) if each.first is not None else size for each in (one, other)}
    return len(families) == 1 and (not one.protocol or not other.protocol or one.protocol == other.protocol)


# ---------------------------------------------------------------- who, where and when


def _peer(ipsec: Ipsec, around: Around) -> Iterator[Complaint]:
    if around.remote in _ANY:
        if ipsec.fields.get("start", "wait") != "wait":
            yield "start", ": there is nobody to call: the remote is any", 'leave it out (it is "wait"), or add remote', False
        if not ipsec.has("remote-id"):
            message = " has no remote-id, and the peer's address is any: who may come?"
            yield "", message, 'remote-id = "branch.example.org"; "%any" takes whoever proves itself', True
        if around.local in _ANY and not ipsec.has("local-id") and _auth(ipsec) != "certificate":
            message = " has no local-id, and neither an address nor a certificate gives one"
            yield "", message, 'local-id = "gateway.example.org", or local in the tunnel', True
    if ipsec.fields.get("remote_id") == "%any" and around.remote not in _ANY and _auth(ipsec) == "certificate":
        message = ': "%any" with certificates takes every certificate of the authority for this peer'
        yield "remote-id", message, "name the peer as its certificate does", False


def _encapsulation(ipsec: Ipsec, around: Around) -> Iterator[Complaint]:
    raw = ipsec.fields.get("encapsulation") == "raw"
    if raw and version_of(around.local) and version_of(around.remote) == version_of(around.local):
        local, remote = ipaddress.ip_address(around.local), ipaddress.ip_address(around.remote)
        if local.is_private and remote.is_global:
            message = f": {local} is private and {remote} is not: there is a NAT between, and protocol 50 does not pass it"
            yield "encapsulation", message, 'leave it out: "auto" uses UDP where there is a NAT', False
    ports = ipsec.fields.get("ike_port", 500), ipsec.fields.get("natt_port", 4500)
    if ports[0] == ports[1]:
        key = "natt-port" if ipsec.has("natt-port") else "ike-port"
        yield key, f": both ports are {ports[0]}: on one of them each message has a marker in front", "give them two ports", False


def _times(ipsec: Ipsec) -> Iterator[Complaint]:
    if ipsec.fields.get("dpd_s", 1) == 0 and ipsec.has("dpd-action"):
        yield "dpd-action", " means nothing with dpd = 0: nobody looks whether the peer lives", "leave one of them out", True
    retransmit, give_up = ipsec.fields.get("retransmit_s", 2.0), ipsec.fields.get("give_up_s", 60.0)
    if give_up <= retransmit:
        key = "give-up" if ipsec.has("give-up") else "retransmit"
        message = f": the peer is given up after {give_up:g} s, and the first repetition is after {retransmit:g} s"
        yield key, message, "give-up is many times retransmit", False
