"""
One value of the network file by itself: what may be written, and what it is.

Each function takes what TOML gives (a string, a number, a table) and returns the value of the model, or raises ValueError with
what was expected and what was found. Nothing is quoted at length, and nothing that looks like a key is quoted at all (`shown`).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from ginnel.config.node import Keepalive
from ginnel.errors import UsageError
from ginnel.ikev2 import proposals
from ginnel.network import model
from ginnel.units import Prefix

#: Longer than any name, address or proposal; shorter than what makes looking at it a burden.
MAX_TEXT = 4096
#: An IPv6 address in full, with an IPv4 tail, a slash and three digits.
MAX_PREFIX = 49

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_INTERFACE = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
#: As systemd-resolved and wg-quick take it; `~` before it: asked of these resolvers, never searched.
_DOMAIN = re.compile(r"(?=.{1,253}\Z)~?(\.|[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?)")
_TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
#: 32 bytes in base64 or hexadecimal digits: a key of WireGuard's, private or not.
_KEY = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=|(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])|-----BEGIN ")

#: "-----BEGIN "; most of what is written is shorter, and there is much of it.
_SHORTEST_KEY = 11
_U32 = (1 << 32) - 1


def looks_like_a_key(text: str) -> bool:
    """Whether somewhere in *text* stands what may be a key, and nobody should read out."""
    return len(text) >= _SHORTEST_KEY and _KEY.search(text) is not None


def shown(found: object) -> str:
    """What was found, as a message has it: on one line, short, and no secret."""
    if isinstance(found, str) and looks_like_a_key(found):
        return "what looks like a key"
    if isinstance(found, dict):
        return "a table"
    if isinstance(found, list):
        return f"a list of {len(found)}"
    try:
        text = repr(found) if isinstance(found, str | bool | int | float) or found is None else f"{found}"
    except ValueError:  # Python does not write numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def text_of(value: object) -> str:
    """A string, not an endless one, and no key: whatever is named here, keys are not."""
    text = _any_text(value)
    if looks_like_a_key(text):
        raise ValueError("found what looks like a key; none belongs in this file, which is for git")
    return text


def _any_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, found {shown(value)}")
    if len(value) > MAX_TEXT:
        raise ValueError(f"expected at most {MAX_TEXT} characters, found {len(value)}")
    return value


def _whole(value: object, least: int, most: int) -> int | None:
    """*value* if it is a whole number from *least* to *most*; else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


# ---------------------------------------------------------------- addresses and names


def parse_prefix(text: object) -> Prefix:
    """
    Parse a prefix whose host bits are clear.

    Raises:
        ValueError: with what was expected, and the prefix that was probably meant.
    """
    text = text_of(text)
    if "/" not in text or len(text) > MAX_PREFIX or not text.isascii():
        raise ValueError(f"expected a prefix such as 10.20.0.0/24, found {shown(text)}")
    prefix = Prefix.parse(text)
    if Prefix.parse(text.partition("/")[0]).packed != prefix.packed:
        raise ValueError(f"expected the network address {prefix}, found {shown(text)} (host bits are set)")
    return prefix


def parse_lan(value: object) -> Prefix | model.Mapped:
    """Parse a LAN: a prefix, or `{ seen = "10.120.0.0/24", real = "192.168.1.0/24" }`."""
    if not isinstance(value, dict):
        return parse_prefix(value)
    if set(value) != {"seen", "real"}:
        found = ", ".join(sorted(shown(key) for key in value)) or "nothing"
        raise ValueError(f'expected {{ seen = "10.120.0.0/24", real = "192.168.1.0/24" }}, found {found[:60]}')
    seen, real = parse_prefix(value["seen"]), parse_prefix(value["real"])
    if (seen.version, seen.length) != (real.version, real.length):
        raise ValueError(f"expected two prefixes of one family and length, found {seen} for {real}: they are mapped one to one")
    if seen == real:
        raise ValueError(f"{seen} is seen as what it is: write it as a plain prefix")
    return model.Mapped(seen, real)


def parse_address(text: object) -> bytes:
    """Parse a bare IP address to packed bytes; ValueError says what was found."""
    text = text_of(text)
    try:
        return _ip(text).packed
    except ValueError:
        raise ValueError(f"expected an IP address, found {shown(text)}") from None


def parse_interface_address(text: object) -> tuple[bytes, int | None]:
    """Parse an address of an interface, with the length of its prefix where one is written."""
    address, slash, length = text_of(text).partition("/")
    packed = parse_address(address)
    if not slash:
        return packed, None
    full = len(packed) * 8
    if not (length.isascii() and length.isdigit() and len(length) <= 3) or int(length) > full:
        raise ValueError(f"expected a prefix length from 0 to {full}, found {shown(length)}")
    return packed, int(length)


def parse_end_endpoint(value: object) -> model.HostPort:
    """Parse by what an end of a link finds the other: an endpoint, or false for none."""
    return model.NO_ENDPOINT if value is False else parse_endpoint(value)


def parse_resolver(text: object) -> str:
    """Parse the address of a resolver."""
    return str(ipaddress.ip_address(parse_address(text)))


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without a zone: which interface of a host it is on is nobody else's business."""
    if "%" in text:
        raise ValueError(text)
    return ipaddress.ip_address(text)


def parse_domain(text: object) -> str:
    """Parse a search domain: `example.org`, or `~example.org` (asked of these resolvers, never searched)."""
    text = text_of(text)
    if _DOMAIN.fullmatch(text) is None:
        raise ValueError(f"expected a domain such as example.org, found {shown(text)}")
    return text.lower()


def parse_endpoint(text: object) -> model.HostPort:
    """Parse `203.0.113.10`, `203.0.113.10:4500`, `2001:db8::1`, `[2001:db8::1]:4500`, `vpn.example.org[:port]`."""
    text = text_of(text)
    host, port = _split_port(text)
    try:
        return model.HostPort(str(_ip(host)), port)
    except ValueError:
        if _HOST.fullmatch(host) is None or host.replace(".", "").isdigit():
            expected = "an address or a host name, with or without a port"
            if text.count(":") > 1 and text[:1] != "[":
                expected += " (an IPv6 address with a port has brackets: [2001:db8::1]:51820)"
            raise ValueError(f"expected {expected}, found {shown(text)}") from None
    return model.HostPort(host.lower(), port)


def _split_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"expected [address]:port, found {shown(text)}")
        port_text = rest[1:]
    elif text.count(":") > 1:
        return text, 0
    else:
        host, colon, port_text = text.partition(":")
        rest = colon
    if not rest:
        return host, 0
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5) or not 0 < int(port_text) <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, found {shown(port_text)}")
    return host, int(port_text)


def parse_target(text: object) -> model.Target:
    """Parse what an expectation is about: `10.20.0.5:443`, `[fd00::5]:443`, `10.20.0.5`, a node's name, or `@group`."""
    text = text_of(text)
    host, port = _split_port(text)
    try:
        return model.Target(text, None, _ip(host).packed, port)
    except ValueError:
        if _NAME.fullmatch(host.removeprefix("@")) is None:
            raise ValueError(f"expected an address, address:port, a node's name or @group, found {shown(text)}") from None
    return model.Target(text, host, b"", port)


def parse_source(text: object) -> str:
    """Parse where an expectation begins: a node's name, an address in a LAN, or `@group`."""
    text = text_of(text)
    if _NAME.fullmatch(text.removeprefix("@")) is None:
        try:
            _ip(text)
        except ValueError:
            raise ValueError(f"expected a node's name, an address in a LAN or @group, found {shown(text)}") from None
    return text


def parse_name(text: object) -> str:
    """Parse the name of a network, node, region or group."""
    text = text_of(text)
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"expected a name of lower-case letters, digits and '-', at most 32, found {shown(text)}")
    return text


def parse_member(text: object) -> str:
    """Parse an end of a link: a node's name, or `@group`. Whether there is such a node is a question of sense, not of form."""
    text = text_of(text)
    if text.startswith("@"):
        parse_name(text[1:])
    return text


def parse_names(value: object) -> tuple[str, ...]:
    """Parse the name of a node, or a list of names."""
    items = value if isinstance(value, list) else [value]
    if not 0 < len(items) <= 1000:
        raise ValueError(f"expected one name or a list of 1 to 1000, found {len(items)}")
    names = tuple(text_of(item) for item in items)
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ValueError(f"{shown(twice)} stands there twice")
    return names


def parse_interface(text: object) -> str:
    """Parse the name of an interface, as Linux and wg-quick take it."""
    text = text_of(text)
    if _INTERFACE.fullmatch(text) is None or text in (".", ".."):
        raise ValueError(f"expected an interface name of at most 15 letters, digits and _=+.-, found {shown(text)}")
    return text


# ---------------------------------------------------------------- of interfaces


def parse_tunnel_mtu(value: object) -> int | None:
    """Parse `"auto"` (None) or a number of bytes from IPv6's least to what UDP can carry."""
    if value is None or value == "auto":
        return None
    if (number := _whole(value, 1280, 65455)) is not None:
        return number
    raise ValueError(f'expected "auto" or a number from 1280 to 65455, found {shown(value)}')


def parse_routing_table(value: object) -> str:
    """Parse wg-quick's `Table`: `"auto"`, `"off"`, a number or a name."""
    if (number := _whole(value, 1, _U32)) is not None:
        return str(number)
    if isinstance(value, str) and _TABLE_NAME.fullmatch(value):
        return value.lower() if value.lower() in ("auto", "off") else value
    raise ValueError(f'expected "auto", "off", or a routing table\'s number or name, found {shown(value)}')


def parse_fwmark(value: object) -> int:
    """Parse a mark: `"off"` (0), a number, or one in hexadecimal as a string (`"0xca6c"`)."""
    if value == "off":
        return 0
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,8}", value):
        value = int(value, 16)
    if (number := _whole(value, 0, _U32)) is not None:
        return number
    raise ValueError(f'expected "off" or a number from 0 to 0xffffffff, found {shown(value)}')


def parse_hook(value: object) -> str:
    """Parse a command of a hook: one line, as in the files that it is rendered into. It may name a public key."""
    text = _any_text(value)
    if not text.strip() or not all(char.isprintable() or char == "\t" for char in text):
        raise ValueError(f"expected a command on one line, found {shown(value)}")
    return text.strip()


# ---------------------------------------------------------------- GRE and IPsec


def parse_gre_key(value: object) -> int:
    """Parse a GRE key as iproute2 does: a number, or four numbers with dots."""
    if isinstance(value, str):
        try:
            return int(ipaddress.IPv4Address(value))
        except ValueError:
            raise ValueError(f'expected a number or a key such as "10.0.0.7", found {shown(value)}') from None
    if (number := _whole(value, 0, _U32)) is not None:
        return number
    raise ValueError(f"expected a number from 0 to 4294967295, found {shown(value)}")


def parse_inherited(value: object) -> int | None:
    """Parse `"inherit"` (None) or a number from 0 to 255."""
    if value == "inherit":
        return None
    if (number := _whole(value, 0, 255)) is not None:
        return number
    raise ValueError(f'expected "inherit" or a number from 0 to 255, found {shown(value)}')


def parse_keepalive(value: object) -> tuple[int, int | None]:
    """Parse seconds (0: none), or `{ interval = 10, retries = 3 }`, to (interval, retries or None for the usual)."""
    table: dict[str, Any] = value if isinstance(value, dict) else {"interval": value}
    unknown = [key for key in table if key not in ("interval", "retries")]
    if unknown:
        raise ValueError(f"expected interval and retries, found {shown(unknown[0])}")
    for key, most in (("interval", 32767), ("retries", 255)):
        if _whole(table.get(key, 1), 0, most) is None:
            raise ValueError(f"expected seconds (0: none) or {{ interval = 10, retries = 3 }}, found {shown(table[key])}")
    return table.get("interval", Keepalive().interval_s), table.get("retries")


def parse_esp_words(text: object) -> str:
    """Check an ESP proposal in strongSwan's words, such as `"aes256gcm16-x25519"`."""
    return _words_of(text_of(text), "esp")


def parse_ike_words(text: object) -> str:
    """Check an IKE proposal in strongSwan's words, such as `"aes256gcm16-prfsha384-x25519"`."""
    return _words_of(text_of(text), "ike")


def _words_of(text: str, protocol: Literal["ike", "esp"]) -> str:
    try:
        proposals.parse_words(text, protocol)
    except UsageError as error:
        raise ValueError(str(error).partition("\n")[0][:300]) from None
    return text


# ---------------------------------------------------------------- the lab

#: IP protocols by the names people use.
_PROTOCOLS = {"icmp": 1, "ipip": 4, "tcp": 6, "udp": 17, "sit": 41, "gre": 47, "esp": 50, "icmpv6": 58}
#: What a firewall in the way stops, by the names people use: protocols of IPv4 and IPv6 together.
BLOCKS = {
    "gre": (47,),
    "ipip": (4,),
    "sit": (41,),
    "esp": (50,),
    "tcp": (6,),
    "udp": (17,),
    "icmp": (1, 58),
}
#: Of ICMP only what path MTU discovery lives on.
TOO_BIG = "icmp-too-big"


def parse_ratio(value: object) -> float:
    """Parse `"1%"`, `"0.5 %"` or `0.01`; ValueError outside 0..1."""
    found = value
    if isinstance(value, str):
        number, percent, rest = value.partition("%")
        try:
            value = float(number) / (100 if percent else 1)
        except ValueError:
            raise ValueError(f'expected a share such as "1%" or 0.01, found {shown(found)}') from None
        if rest.strip():
            raise ValueError(f'expected a share such as "1%" or 0.01, found {shown(found)}')
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f'expected a share such as "1%" or 0.01, found {shown(found)}')
    return float(value)


def parse_milliseconds(value: object) -> float:
    """Parse `"20ms"`, `"0.1s"` or a number of milliseconds; ValueError outside 0..10 s."""
    found = value
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s)", value.strip())
        value = float(match[1]) * (1000 if match[2] == "s" else 1) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10_000:
        raise ValueError(f'expected a time such as "20ms", at most 10 s, found {shown(found)}')
    return float(value)


def parse_protocol(value: object) -> int:
    """Parse `"gre"` or `47`."""
    if isinstance(value, str) and value in _PROTOCOLS:
        return _PROTOCOLS[value]
    if (number := _whole(value, 0, 255)) is not None:
        return number
    raise ValueError(f"expected an IP protocol ({', '.join(_PROTOCOLS)} or 0 to 255), found {shown(value)}")


def parse_block(value: object) -> str | int:
    """Check one item of `block`: `"gre"`, `"icmp"`, `"icmp-too-big"` … or a protocol's number."""
    if isinstance(value, str) and (value in BLOCKS or value == TOO_BIG):
        return value
    if (number := _whole(value, 0, 255)) is not None:
        return number
    raise ValueError(f"expected {', '.join(BLOCKS)}, {TOO_BIG} or a protocol's number, found {shown(value)}")
