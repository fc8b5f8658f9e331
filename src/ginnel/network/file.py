"""
The network file: TOML text in, a `Network` out, or every mistake of the file at once.

    text -> tomllib -> pydantic (form: unknown keys, types, each value by itself) -> model -> check (sense, across nodes)

Form and sense both report through `ConfigError`: file, line, column, what was expected, what was found, how to mend it.
Nothing is guessed: an unknown key is a mistake, with the nearest known one as a hint. No secret belongs in this file;
a line whose key looks like one is refused without being quoted.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ginnel.config import toml
from ginnel.config.node import Keepalive
from ginnel.config.positions import Path, Positions
from ginnel.errors import ConfigError, Mistake, Span, UsageError
from ginnel.ikev2 import proposals
from ginnel.network import model
from ginnel.network.check import check
from ginnel.units import Prefix

#: More than anybody writes by hand, less than what makes the parser a burden (a 2,000-node file is 424 KiB).
MAX_FILE_BYTES = 16 * 1024 * 1024

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_INTERFACE = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_SECRET = re.compile(r"private|preshared|psk|secret|password", re.IGNORECASE)


# ---------------------------------------------------------------- values


def parse_prefix(text: str) -> Prefix:
    """
    Parse a prefix whose host bits are clear.

    Raises:
        ValueError: with what was expected, and the prefix that was probably meant.
    """
    if "/" not in text:
        raise ValueError(f"expected a prefix such as 10.20.0.0/24, found {text!r}")
    prefix = Prefix.parse(text)
    written = ipaddress.ip_address(text.partition("/")[0])
    if written.packed != prefix.packed:
        raise ValueError(f"expected the network address {prefix}, found {text!r} (host bits are set)")
    return prefix


def parse_address(text: str) -> bytes:
    """Parse a bare IP address to packed bytes; ValueError says what was found."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        raise ValueError(f"expected an IP address, found {text!r}") from None


def parse_endpoint(text: str) -> model.HostPort:
    """Parse `203.0.113.10`, `203.0.113.10:4500`, `2001:db8::1`, `[2001:db8::1]:4500`, `vpn.example.org[:port]`."""
    host, port = _split_port(text)
    try:
        return model.HostPort(str(ipaddress.ip_address(host)), port)
    except ValueError:
        if _HOST.fullmatch(host) is None or host.replace(".", "").isdigit():
            raise ValueError(f"expected an address or a host name, with or without a port, found {text!r}") from None
    return model.HostPort(host.lower(), port)


def _split_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"expected [address]:port, found {text!r}")
        port_text = rest[1:]
    elif text.count(":") > 1:
        return text, 0
    else:
        host, colon, port_text = text.partition(":")
        rest = colon
    if not rest:
        return host, 0
    if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, found {port_text!r}")
    return host, int(port_text)


def parse_target(text: str) -> model.Target:
    """Parse what an expectation is about: `10.20.0.5:443`, `[fd00::5]:443`, `10.20.0.5`, or a node's name."""
    host, port = _split_port(text)
    try:
        return model.Target(text, None, ipaddress.ip_address(host).packed, port)
    except ValueError:
        if _NAME.fullmatch(host) is None:
            raise ValueError(f"expected an address, address:port or a node's name, found {text!r}") from None
    return model.Target(text, host, b"", port)


def parse_ratio(value: object) -> float:
    """Parse `"1%"`, `"0.5 %"` or `0.01`; ValueError outside 0..1."""
    found = value
    if isinstance(value, str):
        number, percent, rest = value.partition("%")
        try:
            value = float(number) / (100 if percent else 1)
        except ValueError:
            raise ValueError(f'expected a share such as "1%" or 0.01, found {found!r}') from None
        if rest.strip():
            raise ValueError(f'expected a share such as "1%" or 0.01, found {found!r}')
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f'expected a share such as "1%" or 0.01, found {found!r}')
    return float(value)


def parse_milliseconds(value: object) -> float:
    """Parse `"20ms"`, `"0.1s"` or a number of milliseconds; ValueError outside 0..10 s."""
    found = value
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s)", value.strip())
        value = float(match[1]) * (1000 if match[2] == "s" else 1) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10_000:
        raise ValueError(f'expected a time such as "20ms", at most 10 s, found {found!r}')
    return float(value)


#: IP protocols by the names people use.
_PROTOCOLS = {"icmp": 1, "ipip": 4, "tcp": 6, "udp": 17, "sit": 41, "gre": 47, "esp": 50, "icmpv6": 58}
#: What a firewall in the way stops, by the names people use: protocols of IPv4 and IPv6 together.
_BLOCKS = {
    "gre": (47,),
    "ipip": (4,),
    "sit": (41,),
    "esp": (50,),
    "tcp": (6,),
    "udp": (17,),
    "icmp": (1, 58),
}
#: Of ICMP only what path MTU discovery lives on.
_TOO_BIG = "icmp-too-big"


def parse_protocol(value: object) -> int:
    """Parse `"gre"` or `47`."""
    if isinstance(value, str) and value in _PROTOCOLS:
        return _PROTOCOLS[value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    raise ValueError(f"expected an IP protocol ({', '.join(_PROTOCOLS)} or 0 to 255), found {value!r}")


def parse_block(value: object) -> object:
    """Check one item of `block`: `"gre"`, `"icmp"`, `"icmp-too-big"` … or a protocol's number."""
    if isinstance(value, str) and (value in _BLOCKS or value == _TOO_BIG):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    raise ValueError(f"expected {', '.join(_BLOCKS)}, {_TOO_BIG} or a protocol's number, found {value!r}")


def parse_gre_key(value: object) -> int:
    """Parse a GRE key as iproute2 does: a number, or four numbers with dots."""
    if isinstance(value, str):
        try:
            return int(ipaddress.IPv4Address(value))
        except ValueError:
            raise ValueError(f'expected a number or a key such as "10.0.0.7", found {value!r}') from None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32:
        return value
    raise ValueError(f"expected a number from 0 to 4294967295, found {value!r}")


def parse_inherited(value: object) -> int | None:
    """Parse `"inherit"` (None) or a number from 0 to 255."""
    if value == "inherit":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    raise ValueError(f'expected "inherit" or a number from 0 to 255, found {value!r}')


def parse_keepalive(value: object) -> tuple[int, int | None]:
    """Parse seconds (0: none), or `{ interval = 10, retries = 3 }`, to (interval, retries or None for the usual)."""
    table: dict[str, Any] = value if isinstance(value, dict) else {"interval": value}
    unknown = [key for key in table if key not in ("interval", "retries")]
    if unknown:
        raise ValueError(f"expected interval and retries, found {unknown[0]!r}")
    for key, most in (("interval", 32767), ("retries", 255)):
        number = table.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
            raise ValueError(f"expected seconds (0: none) or {{ interval = 10, retries = 3 }}, found {number!r}")
    return table.get("interval", Keepalive().interval_s), table.get("retries")


def parse_esp_words(text: str) -> str:
    """Check an ESP proposal in strongSwan's words, such as `"aes256gcm16-x25519"`."""
    return _words_of(text, "esp")


def parse_ike_words(text: str) -> str:
    """Check an IKE proposal in strongSwan's words, such as `"aes256gcm16-prfsha384-x25519"`."""
    return _words_of(text, "ike")


def _words_of(text: str, protocol: Literal["ike", "esp"]) -> str:
    try:
        proposals.parse_words(text, protocol)
    except UsageError as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    return text


def parse_tunnel_mtu(value: object) -> int | None:
    """Parse `"auto"` (None) or a number of bytes from IPv6's least to what UDP can carry."""
    if value is None or value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1280 <= value <= 65455:
        return value
    raise ValueError(f'expected "auto" or a number from 1280 to 65455, found {value!r}')


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"expected a name of lower-case letters, digits and '-', at most 32, found {text!r}")
    return text


def _interface(text: str) -> str:
    if _INTERFACE.fullmatch(text) is None or text in (".", ".."):
        raise ValueError(f"expected an interface name of at most 15 letters, digits and _=+.-, found {text!r}")
    return text


def _checked(parse: Any) -> AfterValidator:
    """Keep the text, refuse what *parse* refuses: models hold strings, which are cheap, parsed once more on the way out."""

    def validate(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(validate)


# ---------------------------------------------------------------- tables

_PrefixText = Annotated[str, _checked(parse_prefix)]
_AddressText = Annotated[str, _checked(parse_address)]
_EndpointText = Annotated[str, _checked(parse_endpoint)]
_TargetText = Annotated[str, _checked(parse_target)]
_NameText = Annotated[str, AfterValidator(_name)]
_Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
_Mtu = Annotated[int, Field(strict=True, ge=576, le=65535)]
_TunnelMtu = Annotated[int | None, BeforeValidator(parse_tunnel_mtu)]
_Ratio = Annotated[float, BeforeValidator(parse_ratio)]
_Milliseconds = Annotated[float, BeforeValidator(parse_milliseconds)]
_Protocol = Annotated[int, BeforeValidator(parse_protocol)]
_Block = Annotated[str | int, BeforeValidator(parse_block)]
_GreKey = Annotated[int, BeforeValidator(parse_gre_key)]
_Inherited = Annotated[int | None, BeforeValidator(parse_inherited)]
_Keepalive = Annotated[tuple[int, int | None], BeforeValidator(parse_keepalive)]
_Flag = Annotated[bool, Field(strict=True)]
_IkeText = Annotated[str, _checked(parse_ike_words)]
_EspText = Annotated[str, _checked(parse_esp_words)]
#: Seconds. Rekeying more often than every half minute is a test's business.
_Lifetime = Annotated[int, Field(strict=True, ge=30, le=86_400 * 7)]
_Seconds = Annotated[int, Field(strict=True, ge=0, le=86_400)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkTable(_Table):
    """`[network]`: what all nodes share."""

    name: _NameText
    pool: list[_PrefixText] = Field(min_length=1, max_length=8)
    kind: str = "wireguard"
    shape: Literal["mesh", "hub", "none"] = "mesh"
    hub: str | None = None
    interface: Annotated[str, AfterValidator(_interface)] = "wg0"
    listen_port: _Port = model.DEFAULT_LISTEN_PORT
    mtu: _TunnelMtu = None
    outer: Literal["any", "ipv4"] = "any"


class NodeTable(_Table):
    """`[node.NAME]`: one host."""

    endpoint: _EndpointText | None = None
    lans: list[_PrefixText] = Field(default=[], max_length=1024)
    relay: _Flag = False
    runs: Literal["ginnel", "wg-quick"] = "ginnel"
    exit: str | None = None
    dns: list[_AddressText] = Field(default=[], max_length=8)
    address: list[_AddressText] = Field(default=[], max_length=8)
    listen_port: _Port | None = None
    underlay_mtu: _Mtu = model.DEFAULT_UNDERLAY_MTU


class GreTable(_Table):
    """`[gre]`: what GRE links are unless they say otherwise; iproute2's names, as in a node file."""

    key: _GreKey | None = None
    csum: _Flag = False
    seq: _Flag = False
    ttl: _Inherited = model.DEFAULT_GRE_TTL
    tos: _Inherited = 0
    pmtudisc: _Flag = True
    ignore_df: _Flag = Field(default=False, alias="ignore-df")
    encapsulation: Literal["auto", "none", "udp"] = "auto"
    keepalive: _Keepalive | None = None
    mtu: _TunnelMtu = None
    routes: _Flag = True


class IpsecTable(_Table):
    """`[ipsec]`: how links of kind "gre+ipsec" and "ipsec" are protected unless they say otherwise; as in a node file."""

    mode: Literal["transport", "tunnel"] = "transport"
    auth: Literal["psk", "certificate"] = "psk"
    ike: list[_IkeText] = Field(default=[], max_length=16)
    esp: list[_EspText] = Field(default=[], max_length=16)
    encapsulation: Literal["auto", "udp", "raw"] = "udp"
    ike_rekey: _Lifetime = Field(default=14_400, alias="ike-rekey")
    rekey: _Lifetime = 3_600
    dpd: _Seconds = 30


class LinkTable(GreTable):
    """`[[link]]`: a link by name; what it says of itself goes before what `[gre]` and `[ipsec]` say of all."""

    between: list[str] = Field(min_length=2, max_length=2)
    kind: str | None = None
    subnet: list[_PrefixText] = Field(default=[], max_length=8)
    ipsec: IpsecTable | None = None


class ExpectTable(_Table):
    """`[[expect]]`: a test of the network."""

    source: str = Field(alias="from")
    to: _TargetText
    reaches: _Flag = True


class FaultsTable(_Table):
    """`[lab.node.NAME]`: what the lab's internet does to this node's packets."""

    loss: _Ratio = 0.0
    delay: _Milliseconds = 0.0
    jitter: _Milliseconds = 0.0
    reorder: _Ratio = 0.0
    duplicate: _Ratio = 0.0
    block: list[_Block] = Field(default=[], max_length=32)
    mtu: _Mtu | None = None
    blocked_protocols: list[_Protocol] = Field(default=[], max_length=32)
    blocked_udp_ports: list[_Port] = Field(default=[], max_length=32)


class LabTable(FaultsTable):
    """`[lab]`: the same for every node that has no table of its own."""

    seed: Annotated[int, Field(strict=True, ge=0)] = 1
    node: dict[str, FaultsTable] = {}


class NetworkFile(_Table):
    """The whole file."""

    network: NetworkTable
    node: dict[_NameText, NodeTable] = Field(min_length=1, max_length=10_000)
    gre: GreTable = GreTable()
    ipsec: IpsecTable = IpsecTable()
    link: list[LinkTable] = Field(default=[], max_length=100_000)
    expect: list[ExpectTable] = Field(default=[], max_length=10_000)
    lab: LabTable = LabTable()


# ---------------------------------------------------------------- reading


def parse_network(text: str, source: str) -> model.Network:
    """
    Read a network file.

    Args:
        text: the TOML text.
        source: how to call the file in messages.

    Returns:
        the network, checked for form and for sense.

    Raises:
        ConfigError: every mistake of the file (form first; sense once the form is right).
    """
    if len(text.encode()) > MAX_FILE_BYTES:
        raise ConfigError(source, [Mistake(f"expected at most {MAX_FILE_BYTES} bytes")])
    try:
        document = toml.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [_toml_mistake(str(error), text)]) from None
    if "tunnel" in document and "network" not in document:
        hint = "`ginnel up FILE` brings its tunnels up; a network file has [network] and [node.NAME]"
        raise ConfigError(source, [Mistake("expected a network file, found a node file", hint=hint)])
    positions = Positions(text)
    try:
        parsed = NetworkFile.model_validate(document)
    except ValidationError as error:
        raise ConfigError(source, _in_reading_order(_form_mistakes(error, positions))) from None
    mistakes = _in_reading_order(_not_of_the_kind(parsed, positions))
    if mistakes:
        raise ConfigError(source, mistakes)
    network = _to_model(parsed)
    mistakes = check(network, positions)
    if mistakes:
        raise ConfigError(source, mistakes)
    return network


_COMMON = frozenset({"between", "kind"})
_OPTIONS_OF = {
    "gre": frozenset(LinkTable.model_fields) - {"ipsec"},
    "gre+ipsec": frozenset(LinkTable.model_fields),
    "ipsec": _COMMON | {"subnet", "mtu", "routes", "ipsec"},
}


def _in_reading_order(mistakes: Iterator[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: (mistake.span.line, mistake.span.column) if mistake.span else (0, 0))


def _not_of_the_kind(parsed: NetworkFile, positions: Positions) -> Iterator[Mistake]:
    """Options of GRE or IPsec on a link that is neither."""
    for index, link in enumerate(parsed.link):
        kind = link.kind or parsed.network.kind
        for name in sorted(link.model_fields_set - _OPTIONS_OF.get(kind, _COMMON)):
            key = LinkTable.model_fields[name].alias or name
            span = positions.key(("link", index, key))
            protection = name == "ipsec"
            message = f"link[{index}].{key}: an option of {'IPsec' if protection else 'GRE'} links, and this one is {kind}"
            hint = f'add kind = "{"gre+ipsec" if protection else "gre"}", or take it out'
            yield Mistake(message, span, hint, positions.line(span))


def _toml_mistake(message: str, text: str) -> Mistake:
    what, _, place = message.partition(" (at ")
    lines = text.split("\n")
    if not place:
        return Mistake(f"not TOML that can be read: {what}")
    match = re.match(r"line (\d+), column (\d+)", place)
    span = Span(int(match[1]), int(match[2]), 1) if match else Span(len(lines), max(1, len(lines[-1])), 1)
    line = lines[min(span.line, len(lines)) - 1].rstrip("\r")
    return Mistake(f"not TOML: {what[:1].lower()}{what[1:]}", span, excerpt="" if _SECRET.search(line) else line)


def _form_mistakes(error: ValidationError, positions: Positions) -> Iterator[Mistake]:
    seen: set[tuple[Path, str]] = set()
    for item in error.errors(include_url=False):
        path = _real_path(item["loc"], positions)
        message, hint = _explain(item, path)
        if (path, message) in seen:
            continue
        seen.add((path, message))
        at_key = item["type"] in ("extra_forbidden", "missing")
        span = positions.key(path) if at_key else positions.value(path)
        line = positions.line(span)
        yield Mistake(message, span, hint, "" if _SECRET.search(line) else line)


def _real_path(loc: tuple[int | str, ...], positions: Positions) -> Path:
    """pydantic's place without the parts that are not in the file (union members, `[key]`)."""
    path: Path = ()
    for part in loc:
        if (*path, part) in positions.places:
            path += (part,)
    return path


def _explain(item: Any, path: Path) -> tuple[str, str]:
    loc: tuple[int | str, ...] = item["loc"]
    where = _dotted(path)
    context: Mapping[str, Any] = item.get("ctx", {})
    found = item.get("input")
    match item["type"]:
        case "extra_forbidden":
            return _unknown_key(loc)
        case "missing":
            table = _table_name(loc[:-1])
            return f"{table} has no {loc[-1]!r}", f"add {_sample(str(loc[-1]))}"
        case "value_error":
            return f"{where}: {context['error']}", ""
        case "literal_error":
            return f"{where}: expected {context['expected']}, found {found!r}", _nearest(found, str(context["expected"]))
        case "too_short":
            return f"{where}: expected at least {context['min_length']} of them, found {context['actual_length']}", ""
        case "too_long":
            return f"{where}: expected at most {context['max_length']} of them, found {context['actual_length']}", ""
        case "greater_than_equal":
            return f"{where}: expected {context['ge']} or more, found {found!r}", ""
        case "less_than_equal":
            return f"{where}: expected {context['le']} or less, found {found!r}", ""
        case kind:
            noun = _NOUNS.get(kind.removesuffix("_parsing").removesuffix("_type"))
            expected = f"expected {noun}" if noun else str(item["msg"])
            return f"{where}: {expected}, found {_short(found)}", ""


_NOUNS = {
    "string": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a table",
    "model": "a table",
    "model_attributes": "a table",
}

_SAMPLES = {
    "name": 'name = "acme"',
    "pool": 'pool = ["10.10.0.0/24"]',
    "network": 'a table: [network] with name = "acme" and pool = ["10.10.0.0/24"]',
    "node": "a table for each node: [node.paris]",
    "between": 'between = ["paris", "lyon"]',
    "from": 'from = "lyon"',
    "to": 'to = "10.20.0.5:443"',
}


def _sample(key: str) -> str:
    return _SAMPLES.get(key, key)


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _dotted(path: Path) -> str:
    """`node.paris.lans[0]`, as a person would name it."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out or "the file"


def _table_name(loc: Sequence[int | str]) -> str:
    match list(loc):
        case []:
            return "the file"
        case ["link" | "expect" as name, int(index)]:
            return f"[[{name}]] number {index + 1}"
        case parts:
            return f"[{'.'.join(str(part) for part in parts)}]"


def _unknown_key(loc: tuple[int | str, ...]) -> tuple[str, str]:
    key = str(loc[-1])
    table = _table_name(loc[:-1])
    message = f"{table} knows no {key!r}"
    if _SECRET.search(key):
        return message, "private keys are born on their node and stay there; this file is for git and holds none"
    known = _keys_of(loc[:-1])
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return message, f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(known)}"


def _keys_of(loc: Sequence[int | str]) -> list[str]:
    table: type[BaseModel]
    match list(loc):
        case []:
            table = NetworkFile
        case ["network"]:
            table = NetworkTable
        case ["node", _]:
            table = NodeTable
        case ["link", _]:
            table = LinkTable
        case ["gre"]:
            table = GreTable
        case ["ipsec"] | ["link", _, "ipsec"]:
            table = IpsecTable
        case ["expect", _]:
            table = ExpectTable
        case ["lab"]:
            table = LabTable
        case _:
            table = FaultsTable
    return [info.alias or name for name, info in table.model_fields.items()]


def _nearest(found: object, expected: str) -> str:
    options = re.findall(r"'([^']+)'", expected)
    close = difflib.get_close_matches(str(found), options, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


# ---------------------------------------------------------------- to the model


def _to_model(parsed: NetworkFile) -> model.Network:
    table = parsed.network
    return model.Network(
        name=table.name,
        pool=tuple(map(parse_prefix, table.pool)),
        nodes=tuple(_node(name, node) for name, node in parsed.node.items()),
        shape=table.shape,
        hubs=(table.hub,) if table.hub is not None else (),
        kind=table.kind,
        interface=table.interface,
        listen_port=table.listen_port,
        mtu=table.mtu,
        outer=table.outer,
        gre=_gre(parsed.gre),
        ipsec=_ipsec(parsed.ipsec),
        links=tuple(_link(link, parsed) for link in parsed.link),
        expects=tuple(model.Expect(item.source, parse_target(item.to), item.reaches) for item in parsed.expect),
        lab=model.Lab(
            faults=_faults(parsed.lab),
            of_node={name: _faults(faults) for name, faults in parsed.lab.node.items()},
            seed=parsed.lab.seed,
        ),
    )


def _node(name: str, table: NodeTable) -> model.Node:
    return model.Node(
        name=name,
        endpoint=parse_endpoint(table.endpoint) if table.endpoint is not None else None,
        lans=tuple(map(parse_prefix, table.lans)),
        relay=table.relay,
        runs=table.runs,
        exit=table.exit,
        dns=tuple(table.dns),
        address=tuple(map(parse_address, table.address)),
        listen_port=table.listen_port,
        underlay_mtu=table.underlay_mtu,
    )


def _link(link: LinkTable, parsed: NetworkFile) -> model.Link:
    between = (link.between[0], link.between[1])
    if (kind := link.kind or parsed.network.kind) not in model.POINT_TO_POINT:
        return model.Link(between, kind)
    said = {name: getattr(link, name) for name in link.model_fields_set & set(GreTable.model_fields)}
    ipsec = None
    if kind in model.PROTECTED:
        own = {name: getattr(link.ipsec, name) for name in link.ipsec.model_fields_set} if link.ipsec is not None else {}
        ipsec = _ipsec(parsed.ipsec.model_copy(update=own))
    gre_options = _gre(parsed.gre.model_copy(update=said))
    return model.Link(between, kind, gre_options, ipsec, tuple(map(parse_prefix, link.subnet)))


def _ipsec(table: IpsecTable) -> model.Ipsec:
    return model.Ipsec(
        mode=table.mode,
        auth=table.auth,
        ike=tuple(table.ike),
        esp=tuple(table.esp),
        encapsulation=table.encapsulation,
        ike_rekey_s=table.ike_rekey,
        rekey_s=table.rekey,
        dpd_s=table.dpd,
    )


def _gre(table: GreTable) -> model.Gre:
    ttl = table.ttl
    if "ttl" not in table.model_fields_set and not table.pmtudisc:
        ttl = None  # a fixed one needs path MTU discovery
    udp = None if table.encapsulation == "auto" else table.encapsulation == "udp"
    keepalive: tuple[int, int | None] | Literal["auto"] | None = "auto"
    if table.keepalive is not None:
        keepalive = table.keepalive if table.keepalive[0] else None
    return model.Gre(
        key=table.key,
        csum=table.csum,
        seq=table.seq,
        ttl=ttl or 0,
        tos=table.tos,
        pmtudisc=table.pmtudisc,
        ignore_df=table.ignore_df,
        udp=udp,
        keepalive=keepalive,
        mtu=table.mtu,
        routes=table.routes,
    )


def _faults(table: FaultsTable) -> model.Faults:
    blocked = [number for item in table.block for number in (_BLOCKS.get(item, ()) if isinstance(item, str) else (item,))]
    return model.Faults(
        loss=table.loss,
        delay_ms=table.delay,
        jitter_ms=table.jitter,
        reorder=table.reorder,
        duplicate=table.duplicate,
        blocked_protocols=tuple(dict.fromkeys([*blocked, *table.blocked_protocols])),
        blocked_udp_ports=tuple(table.blocked_udp_ports),
        blocked_too_big=_TOO_BIG in table.block,
        mtu=table.mtu or 0,
    )
