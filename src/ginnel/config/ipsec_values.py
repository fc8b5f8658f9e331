"""
The value of each key of a `[tunnel.NAME.ipsec]`, by itself; what they mean for one another is `ipsec_sense`.

`READERS` is the table: by the key (with hyphens) the field of `IpsecConfig`, and what reads the value or raises `BadValueError`.
Names are strongSwan's where it has one and ours where its name says less. Secrets never stand in a node file: what looks like one
is refused without being quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ginnel.config.ipsec_profiles import PROFILES
from ginnel.config.node_values import BadItemsError, BadValueError, closest, flag, shown
from ginnel.errors import UsageError
from ginnel.ikev2 import identities, proposals, selectors

#: Of proposals, selectors and files in one list: more than any peer takes.
LIST_MAX = 16
#: A week: longer than any key should be used.
_TIME_MAX_S = 7 * 86_400
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _of(reason: UsageError, hint: str = "") -> BadValueError:
    """What another layer says of a word, as a mistake of the file."""
    message, _, more = str(reason).partition("\n  hint: ")
    return BadValueError(message, more or hint)


def _choice(*words: str) -> Callable[[object], str]:
    def reader(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        expected = ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"'
        raise BadValueError(f"expected {expected}, found {shown(value)}", closest(str(value), words))

    return reader


def _profile(value: object) -> str:
    if isinstance(value, str) and value in PROFILES:
        return value
    known = ", ".join(PROFILES)
    hint = closest(str(value), tuple(PROFILES)) or "leave it out for any other peer, and name ike and esp if need be"
    raise BadValueError(f"expected one of {known}, found {shown(value)}", hint)


def _number(least: int, most: int) -> Callable[[object], int]:
    def reader(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise BadValueError(f"expected a number from {least} to {most}, found {shown(value)}")

    return reader


def _duration(least: int, *, off: bool) -> Callable[[object], int]:
    """Seconds, or a text with a unit; 0 turns off where that means something."""

    def reader(value: object) -> int:
        seconds: Any = value
        match = re.fullmatch(r"([0-9]{1,9})\s*(s|m|min|h|d)?", value) if isinstance(value, str) else None
        if match is not None:
            seconds = int(match[1]) * _UNITS[match[2] or ""]
        is_number = isinstance(seconds, int) and not isinstance(seconds, bool)
        if is_number and (least <= seconds <= _TIME_MAX_S or (off and not seconds)):
            return int(seconds)
        none = " (0: never)" if off else ""
        message = f"expected seconds from {least} to {_TIME_MAX_S}{none}, found {shown(value)}"
        raise BadValueError(message, 'a text may have a unit: "90s", "5m", "4h"')

    return reader


def _seconds(least: float, most: float) -> Callable[[object], float]:
    def reader(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        raise BadValueError(f"expected seconds from {least:g} to {most:g}, found {shown(value)}")

    return reader


def _amount(value: object) -> int:
    """A number, or a text with K, M, G or T behind it; 0: no limit."""
    amount = value
    match = re.fullmatch(r"([0-9]{1,18})\s*([KMGT]?)B?", value) if isinstance(value, str) else None
    if match is not None:
        amount = int(match[1]) * _BYTES[match[2]]
    if isinstance(amount, int) and not isinstance(amount, bool) and 0 <= amount < 2**63:
        return amount
    raise BadValueError(f"expected a number (0: no limit), found {shown(value)}", 'a text may have a unit: "100G"')


def _text(value: object, what: str, example: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 4096 or not value.isprintable():
        # Never quoted: somebody may have written the secret itself.
        raise BadValueError(f"expected {what}", f"for example {example}")
    return value


def _file(value: object) -> str:
    return _text(value, "the path of a file", '"site.psk" (beside the node file) or "/etc/ginnel/site.psk"')


def _identity(value: object) -> str:
    text = _text(value, "an identity", '"moon.example.org", "192.0.2.1", "CN=moon, O=Example", "@#6d6f"')
    try:
        identities.parse(text)
    except UsageError as reason:
        raise _of(reason) from None
    return text


def _own_identity(value: object) -> str:
    text = _identity(value)
    if identities.parse(text) is None:
        hint = "leave it out for our address, or the certificate's subject"
        raise BadValueError('"%any" is for the peer: we are somebody', hint)
    return text


def _several(of: Callable[[object], str], what: str) -> Callable[[object], tuple[str, ...]]:
    """One text, or a list of them; the mistakes of all items at once."""

    def reader(value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            return (of(value),)
        if not value or len(value) > LIST_MAX:
            raise BadValueError(f"expected 1 to {LIST_MAX} {what}, found {len(value)}")
        found: list[str] = []
        wrong: dict[str | int, BadValueError] = {}
        for index, item in enumerate(value):
            try:
                text = of(item)
            except BadValueError as bad:
                wrong[index] = bad
                continue
            if text in found:
                wrong[index] = BadValueError(f"{shown(text)} is there already")
            found.append(text)
        if wrong:
            raise BadItemsError(wrong)
        return tuple(found)

    return reader


def _proposal(protocol: Literal["ike", "esp"]) -> Callable[[object], str]:
    example = {"ike": "aes256gcm16-prfsha256-x25519", "esp": "aes256gcm16-x25519"}[protocol]

    def reader(value: object) -> str:
        if not isinstance(value, str):
            raise BadValueError(f"expected a proposal in strongSwan's words, found {shown(value)}", f'for example "{example}"')
        try:
            proposals.parse_words(value[:200], protocol)
        except UsageError as reason:
            raise _of(reason, f'for example "{example}"') from None
        return value

    return reader


def _selector(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"expected a selector, found {shown(value)}", 'for example "10.1.0.0/16" or "dynamic[gre]"')
    try:
        selectors.parse_words(value[:200])
    except UsageError as reason:
        raise _of(reason) from None
    return value


_PORT = _number(1, 65_535)

#: Every key of a [tunnel.NAME.ipsec]: the field of `IpsecConfig` that it sets, and what reads its value.
READERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "peer": ("peer", _profile),
    "mode": ("mode", _choice("transport", "tunnel")),
    "start": ("start", _choice("start", "trap", "wait")),
    "auth": ("auth", _choice("psk", "certificate", "public-key")),
    "remote-auth": ("remote_auth", _choice("psk", "certificate", "public-key")),
    "psk-file": ("psk_file", _file),
    "certificate-file": ("certificate_files", _several(_file, "files")),
    "private-key-file": ("private_key_file", _file),
    "ca-file": ("ca_files", _several(_file, "files")),
    "crl-file": ("crl_files", _several(_file, "files")),
    "revocation": ("revocation", _choice("strict", "if-given")),
    "peer-key-file": ("peer_key_file", _file),
    "local-id": ("local_id", _own_identity),
    "remote-id": ("remote_id", _identity),
    "ike": ("ike_proposals", _several(_proposal("ike"), "proposals")),
    "esp": ("esp_proposals", _several(_proposal("esp"), "proposals")),
    "local-ts": ("local_ts", _several(_selector, "selectors")),
    "remote-ts": ("remote_ts", _several(_selector, "selectors")),
    "encapsulation": ("encapsulation", _choice("auto", "udp", "raw")),
    "ike-port": ("ike_port", _PORT),
    "natt-port": ("natt_port", _PORT),
    "ike-rekey": ("ike_rekey_s", _duration(2, off=True)),
    "rekey": ("rekey_s", _duration(2, off=True)),
    "rekey-bytes": ("rekey_bytes", _amount),
    "rekey-packets": ("rekey_packets", _amount),
    "dpd": ("dpd_s", _duration(1, off=True)),
    "dpd-action": ("dpd_action", _choice("restart", "trap", "clear")),
    "retransmit": ("retransmit_s", _seconds(0.1, 60)),
    "give-up": ("give_up_s", _seconds(1, 3_600)),
    "replay-window": ("replay_window", _number(0, 65_536)),
    "fragmentation": ("fragmentation", flag),
    "childless": ("childless", _choice("auto", "never")),
    "copy-dscp": ("copy_dscp", flag),
    "df": ("df", _choice("copy", "set", "clear")),
}
#: The keys by name, for documentation and its test.
KEYS = tuple(READERS)

_IN_A_FILE = "a secret does not stand in a node file: write it into a file of its own, mode 0600, and psk-file = that file"
#: Words of other programs, and what they are here.
MEANT: Mapping[str, str] = {
    "psk": _IN_A_FILE,
    "secret": _IN_A_FILE,
    "password": _IN_A_FILE,
    "pre-shared-key": _IN_A_FILE,
    "cert": "write certificate-file",
    "certs": "write certificate-file",
    "certificate": "write certificate-file",
    "certificates": "write certificate-file",
    "key": "write private-key-file, or psk-file for a shared secret",
    "private-key": "write private-key-file",
    "key-file": "write private-key-file, or psk-file for a shared secret",
    "ca": "write ca-file",
    "cacerts": "write ca-file",
    "crl": "write crl-file",
    "id": "write local-id or remote-id",
    "leftid": "write local-id",
    "rightid": "write remote-id",
    "leftsubnet": "write local-ts",
    "rightsubnet": "write remote-ts",
    "local": "the ends stand in the tunnel, beside its kind",
    "remote": "the ends stand in the tunnel, beside its kind",
    "local-addrs": "write local in the tunnel, beside its kind",
    "remote-addrs": "write remote in the tunnel, beside its kind",
    "proposals": "write ike (and esp for the child SA)",
    "ike-proposals": "write ike",
    "esp-proposals": "write esp",
    "pfs": "name a group in esp: aes256gcm16-x25519",
    "lifetime": "write rekey (and ike-rekey)",
    "life-time": "write rekey",
    "rekey-time": "write rekey",
    "dpd-delay": "write dpd",
    "dpd-timeout": "write give-up",
    "encap": 'write encapsulation = "udp"',
    "forceencaps": 'write encapsulation = "udp"',
    "start-action": "write start",
    "auto": "write start",
    "version": "only IKEv2 is spoken: leave it out",
    "keyexchange": "only IKEv2 is spoken: leave it out",
    "mobike": "MOBIKE is not done: leave it out, and mobike=no on the peer saves it a message",
    "eap": "EAP is not done: psk, certificate or public-key",
    "esn": "name it in esp: aes256gcm16-x25519-esn",
    "type": "write mode",
    "mtu": "write mtu in the tunnel, beside its kind",
}
