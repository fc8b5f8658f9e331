"""
What the form of a network file has wrong: pydantic's errors in the words of the file, each with its place and a hint.

An unknown key gets the nearest known one of its table. Nothing that may be a secret is quoted: not the value of a key that sounds
like one, not a line with such a key, not what looks like a key of WireGuard's wherever it stands.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ginnel.config.positions import Path, Positions
from ginnel.errors import Mistake
from ginnel.network import model
from ginnel.network.language.tables import GroupTable, LinkTable, NetworkFile
from ginnel.network.language.values import looks_like_a_key, shown

_SECRET = re.compile(r"private|preshared|psk|secret|password", re.IGNORECASE)
#: Where `psk` is a choice and no key.
_CHOICE = re.compile(r"""(?:psk\s*=\s*(?:true|false|["'](?:none|random|derived)["'])|auth\s*=\s*["']psk["'])\s*(?=$|[,}#])""")
#: A key of TOML that needs no quotes; another is not to be trusted with somebody's terminal.
_BARE = re.compile(r"@?[A-Za-z0-9_-]{1,64}")
#: A line that nobody looks at as a whole; there may be as many mistakes in it as it is long.
_LINE_MAX = 1000
_NO_SECRETS = "private keys are born on their node and stay there; this file is for git and holds none"


def excerpt(line: str) -> str:
    """*line* as it may be shown: nothing of it where it may hold a secret or has no end, and no control characters."""
    if len(line) > _LINE_MAX or looks_like_a_key(line) or _SECRET.search(_CHOICE.sub("", line)):
        return ""
    return "".join(char if char.isprintable() else " " if char == "\t" else "?" for char in line)


def in_reading_order(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """By line and column; those without a place first."""
    return sorted(mistakes, key=lambda mistake: (mistake.span.line, mistake.span.column) if mistake.span else (0, 0))


# ---------------------------------------------------------------- of a table by itself


def form_mistakes(error: ValidationError, positions: Positions) -> Iterator[Mistake]:
    """pydantic's errors, each once."""
    seen: set[tuple[Path, str]] = set()
    for item in error.errors(include_url=False):
        path = _real_path(item["loc"], positions)
        message, hint = _explain(item, path)
        if (path, message) in seen:
            continue
        seen.add((path, message))
        at_key = item["type"] in ("extra_forbidden", "missing")
        span = positions.key(path) if at_key else positions.value(path)
        code = "G0905" if hint == _NO_SECRETS else _CODES.get(item["type"], "G0904")
        yield Mistake(message, span, hint, excerpt(positions.line(span)), code)


def _real_path(loc: tuple[int | str, ...], positions: Positions) -> Path:
    """pydantic's place without the parts that are not in the file (union members, `[key]`)."""
    path: Path = ()
    for part in loc:
        if (*path, part) in positions.places:
            path += (part,)
    return path


def _explain(item: Any, path: Path) -> tuple[str, str]:
    loc: tuple[int | str, ...] = item["loc"]
    where = dotted(path)
    context: Mapping[str, Any] = item.get("ctx", {})
    found = shown(item.get("input"))
    hint = ""
    if any(isinstance(part, str) and _SECRET.search(part) for part in path[-2:]) and isinstance(item.get("input"), str):
        found, hint = "what this does not say", _NO_SECRETS
    match item["type"]:
        case "extra_forbidden":
            return _unknown_key(loc)
        case "missing":
            return f"{_table_name(loc[:-1])} has no {loc[-1]!r}", f"add {_SAMPLES.get(str(loc[-1]), str(loc[-1]))}"
        case "value_error":
            return f"{where}: {context['error']}", hint
        case "literal_error":
            expected = str(context["expected"])
            if hint and not looks_like_a_key(str(item["input"])):
                hint = f"{path[-1]} says how keys are made; none stands in this file"
            return f"{where}: expected {expected}, found {found}", hint or _nearest(item.get("input"), expected)
        case "too_short":
            return f"{where}: expected at least {context['min_length']} of them, found {context['actual_length']}", hint
        case "too_long":
            return f"{where}: expected at most {context['max_length']} of them, found {context['actual_length']}", hint
        case "greater_than_equal":
            return f"{where}: expected {context['ge']} or more, found {found}", hint
        case "less_than_equal":
            return f"{where}: expected {context['le']} or less, found {found}", hint
        case "less_than":
            return f"{where}: expected less than {context['lt']}, found {found}", hint
        case kind:
            noun = _NOUNS.get(kind.removesuffix("_parsing").removesuffix("_type"))
            expected = f"expected {noun}" if noun else str(item["msg"])
            if noun == "a list" and isinstance(item.get("input"), str) and not hint:
                hint = "a list has brackets, also of one"
            return f"{where}: {expected}, found {found}", hint


#: By pydantic's words; all others are G0904.
_CODES = {"extra_forbidden": "G0902", "missing": "G0903"}

_NOUNS = {
    "string": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
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
    "nodes": 'nodes = ["paris", "lyon"]',
    "edge": 'edge = "paris"',
    "origin": 'origin = "lyon"',
    "addresses": 'addresses = ["203.0.113.64/28"]',
}


def dotted(path: Path) -> str:
    """`node.paris.lans[0]`, as a person would name it."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if out else _key(part)
    return out or "the file"


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) and not looks_like_a_key(text) else shown(text)


def _table_name(loc: Sequence[int | str]) -> str:
    match list(loc):
        case []:
            return "the file"
        case [str(name), int(index)]:
            return f"[[{name}]] number {index + 1}"
        case parts:
            return f"[{'.'.join(_key(str(part)) for part in parts)}]"


def _unknown_key(loc: tuple[int | str, ...]) -> tuple[str, str]:
    key = str(loc[-1])
    message = f"{_table_name(loc[:-1])} knows no {shown(key)}"
    if _SECRET.search(key):
        return message, _NO_SECRETS
    known = _keys_of(loc[:-1])
    plain = key.lower().replace("_", "").replace("-", "")
    if (ours := _ELSEWHERE.get(plain)) and ours[0] in known:
        return message, ours[1]
    close = [one for one in known if one.replace("_", "").replace("-", "") == plain]
    close += [one for one in known if one == key.lower().replace("_", "-") or one == key.lower().replace("-", "_")]
    close += difflib.get_close_matches(key[:64], known, n=1, cutoff=0.6)
    return message, f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(known)}"


#: What others' files call it, without dashes and capitals: our key where it has another name, and what to do.
_ELSEWHERE: dict[str, tuple[str, str]] = {
    "allowedips": ("lans", 'AllowedIPs follow from what stands behind each node: lans = ["10.20.0.0/24"]'),
    "subnets": ("lans", "what lies behind a node are its lans"),
    "networks": ("lans", "what lies behind a node are its lans"),
    "routes": ("lans", 'routes follow from what stands behind each node: lans = ["10.20.0.0/24"]'),
    "publickey": ("endpoint", "public keys are in the lock file: `ginnel keys new NODE --public KEY` pins one"),
    "port": ("listen_port", "did you mean 'listen_port'?"),
    "ip": ("address", "did you mean 'address'?"),
    "ips": ("address", "did you mean 'address'?"),
    "addresses": ("address", "did you mean 'address'?"),
    "persistentkeepalive": ("keepalive", "did you mean 'keepalive'?"),
    "peers": ("endpoint", "who is whose peer follows from the network's shape; others are added by [[link]]"),
    "peer": ("node", "who is whose peer follows from the network's shape; others are added by [[link]]"),
    "host": ("endpoint", "did you mean 'endpoint'?"),
    "publicip": ("endpoint", "did you mean 'endpoint'?"),
    "preup": ("hooks", 'hooks.pre-up = ["…"]'),
    "postup": ("hooks", 'hooks.post-up = ["…"]'),
    "predown": ("hooks", 'hooks.pre-down = ["…"]'),
    "postdown": ("hooks", 'hooks.post-down = ["…"]'),
    "topology": ("shape", "did you mean 'shape'?"),
    "cidr": ("pool", "did you mean 'pool'?"),
    "subnet": ("pool", "did you mean 'pool'?"),
    "range": ("pool", "did you mean 'pool'?"),
}


def _keys_of(loc: Sequence[int | str]) -> list[str]:
    """What the table at *loc* may have."""
    table: type[BaseModel] = NetworkFile
    rest = list(loc)
    while rest:
        annotation = next(info.annotation for name, info in table.model_fields.items() if (info.alias or name) == rest[0])
        table = _table_in(annotation)
        rest = rest[2:] if _many(annotation) else rest[1:]
    return [info.alias or name for name, info in table.model_fields.items()]


def _many(annotation: Any) -> bool:
    return get_origin(annotation) in (dict, list, tuple)


def _table_in(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = _table_in(part)
        if found is not BaseModel:
            return found
    return BaseModel


def _nearest(found: object, expected: str) -> str:
    options = re.findall(r"'([^']+)'", expected)
    close = difflib.get_close_matches(str(found)[:64], options, n=1) if isinstance(found, str) else []
    return f"did you mean {close[0]!r}?" if close else ""


# ---------------------------------------------------------------- of several values of one table

#: More links by name than a full mesh of a thousand nodes has are a mistake in a group.
MAX_LINKS = 1_000_000
MAX_EXPECTS = 100_000

_COMMON = frozenset({"between", "kind", "ends"})
_OPTIONS_OF = {
    "wireguard": _COMMON | {"psk"},
    "gre": frozenset(LinkTable.model_fields) - {"ipsec", "psk"},
    "gre+ipsec": frozenset(LinkTable.model_fields) - {"psk"},
    "ipsec": _COMMON | {"subnet", "mtu", "routes", "ipsec"},
}


def table_mistakes(parsed: NetworkFile, positions: Positions) -> Iterator[Mistake]:
    """What the values of one table have wrong together, and groups that there are not."""
    yield from _not_of_the_kind(parsed, positions)
    yield from _groups(parsed, positions)


def _at(positions: Positions, path: Path, message: str, hint: str = "", *, key: bool = False, code: str = "G0904") -> Mistake:
    span = positions.key(path) if key else positions.value(path)
    return Mistake(message, span, hint, excerpt(positions.line(span)), code)


def _not_of_the_kind(parsed: NetworkFile, positions: Positions) -> Iterator[Mistake]:
    """Options of one kind on a link of another."""
    for index, link in enumerate(parsed.link):
        kind = link.kind or parsed.network.kind
        for name in sorted(link.model_fields_set - _OPTIONS_OF.get(kind, _COMMON)):
            key = LinkTable.model_fields[name].alias or name
            whose, needs = {"ipsec": ("IPsec", "gre+ipsec"), "psk": ("WireGuard", "wireguard")}.get(name, ("GRE", "gre"))
            message = f"link[{index}].{key}: an option of {whose} links, and this one is {shown(kind).strip(chr(39))}"
            yield _at(positions, ("link", index, key), message, f'add kind = "{needs}", or take it out', key=True, code="G0912")
        for name, end in link.ends.items():
            where, path = f"link[{index}].ends.{_key(name)}", ("link", index, "ends", name)
            if end.device is not None and kind not in model.POINT_TO_POINT:
                message = f"{where}.device: a WireGuard link has no device of its own"
                yield _at(
                    positions, (*path, "device"), message, "interface in [node.NAME] names that of all its links", code="G0912"
                )
            if end.keepalive is not None and kind in model.POINT_TO_POINT:
                message = f"{where}.keepalive: of WireGuard links, and this one is {kind}"
                yield _at(positions, (*path, "keepalive"), message, "say keepalive of the link", code="G0912")
            if name not in link.between and not any(name in _members(parsed, each) for each in link.between):
                message = f"{where}: {_key(name)} is no end of this link"
                yield _at(
                    positions, path, message, f"its ends are {' and '.join(map(_key, link.between))}", key=True, code="G0907"
                )


def _members(parsed: NetworkFile, end: str) -> Sequence[str]:
    """The nodes that an end of a link stands for."""
    if not end.startswith("@"):
        return (end,)
    group: GroupTable | None = parsed.group.get(end[1:])
    return group.nodes if group is not None else ()


def _groups(parsed: NetworkFile, positions: Positions) -> Iterator[Mistake]:
    """Groups are known by name, and do not multiply without bound."""
    links = expects = 0
    for index, link in enumerate(parsed.link):
        for side, end in enumerate(link.between):
            yield from _known(parsed, positions, ("link", index, "between", side), f"link[{index}].between", end)
        sizes = [len(_members(parsed, end)) for end in link.between]
        links += sizes[0] * sizes[1]
        if link.subnet and (sizes[0] > 1 or sizes[1] > 1):
            message = f"link[{index}].subnet: that of one link, and this makes {sizes[0] * sizes[1]}"
            yield _at(positions, ("link", index, "subnet"), message, "give the pair a [[link]] of its own", key=True)
        if links > MAX_LINKS:
            yield _at(positions, ("link", index, "between"), f"link[{index}].between: more than {MAX_LINKS} links by name")
            return
    for index, expect in enumerate(parsed.expect):
        source, target = expect.source, expect.to.node or ""
        yield from _known(parsed, positions, ("expect", index, "from"), f"expect[{index}].from", source)
        yield from _known(parsed, positions, ("expect", index, "to"), f"expect[{index}].to", target)
        expects += len(_members(parsed, source)) * len(_members(parsed, target))
        if expects > MAX_EXPECTS:
            yield _at(positions, ("expect", index), f"expect[{index}]: more than {MAX_EXPECTS} expectations")
            return


def _known(parsed: NetworkFile, positions: Positions, path: Path, where: str, name: str) -> Iterator[Mistake]:
    if not name.startswith("@") or name[1:] in parsed.group:
        return
    close = difflib.get_close_matches(name[1:], parsed.group, n=1)
    known = ", ".join(f"@{each}" for each in list(parsed.group)[:12])
    hint = f"did you mean '@{close[0]}'?" if close else f"groups are {known}" if known else "a group is a table: [group.NAME]"
    yield _at(positions, path, f"{where}: there is no group {name!r}", hint, code="G0907")
