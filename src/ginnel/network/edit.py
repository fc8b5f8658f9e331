"""
A node put into, taken out of, or renamed in the text of a network file; everything else in the text stays byte for byte.

The texts of all files of a network go in, those that change come out. A node is named in many places (`mentions`): as a table, at
the ends of links, in groups, as hub, exit, edge and origin, in expectations. To rename is to change all of them. To remove takes
out the links and expectations that are about the node, and its name from lists; where something else needs it (it is somebody's
exit, the only hub) the name stays, and the check that the caller makes of the result says who needs it.

What comes out is read again and compared with what was meant, so that no way to write TOML that this does not know ends in
another network than asked for.
"""

from __future__ import annotations

import copy
import ipaddress
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ginnel.config import toml
from ginnel.config.positions import Path
from ginnel.errors import UsageError
from ginnel.network.language.values import parse_target
from ginnel.network.patch import Patch, bare_or_quoted

#: The texts of the files, by what they are called.
Texts = Mapping[str, str]


def _in_targets(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every place where a string names a node (perhaps with a port), and that string."""

    def text(path: Path, value: object) -> Iterator[tuple[Path, str]]:
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from text((*path, index), item)

    network = document.get("network", {})
    yield from text(("network", "hub"), network.get("hub"))
    for name, node in document.get("node", {}).items():
        yield from text(("node", name, "exit"), node.get("exit"))
    for name, group in document.get("group", {}).items():
        yield from text(("group", name, "nodes"), group.get("nodes"))
        yield from text(("group", name, "hub"), group.get("hub"))
    for array, keys in _ARRAYS.items():
        for index, table in enumerate(document.get(array, [])):
            for key in keys:
                yield from text((array, index, key), table.get(key))


_ARRAYS: Mapping[str, tuple[str, ...]] = {"link": ("between",), "protect": ("edge", "origin"), "expect": ("from", "to")}


def _table_keys(document: Mapping[str, Any]) -> Iterator[Path]:
    """Every table that is called after a node."""
    yield from (("node", name) for name in document.get("node", {}))
    yield from (("lab", "node", name) for name in document.get("lab", {}).get("node", {}))
    for index, link in enumerate(document.get("link", [])):
        yield from (("link", index, "ends", name) for name in link.get("ends", {}))


def mentions(document: Mapping[str, Any], name: str) -> list[Path]:
    """Where in a document (of a file whose form is right) the node *name* is named: tables called after it, and values."""
    keys = [path for path in _table_keys(document) if path[-1] == name]
    return keys + [path for path, text in _in_targets(document) if _host(text) == name]


def _host(text: str) -> str:
    """The node of `lyon` and `lyon:443`."""
    return text.partition(":")[0]


# ---------------------------------------------------------------- add


def add_node(texts: Texts, name: str, keys: Mapping[str, object], groups: Sequence[str] = (), into: str = "") -> dict[str, str]:
    """
    Put in a node, behind the last one.

    Args:
        texts: all files of the network.
        name: of the new node.
        keys: what its table says: strings, numbers, true, lists and tables of them.
        groups: those that it becomes a member of.
        into: in which file; empty: the last that has nodes.

    Returns:
        the files that changed.

    Raises:
        UsageError: there is such a node, or no such group, or the file is written in a way that this cannot edit.
    """
    documents = {source: toml.loads(text) for source, text in texts.items()}
    if any(name in document.get("node", {}) for document in documents.values()):
        raise UsageError(f"there is a node {name!r} already")
    with_nodes = [source for source, document in documents.items() if document.get("node")]
    into = into or (with_nodes[-1] if with_nodes else next(iter(texts)))
    wanted, patches = copy.deepcopy(documents), _Patches(texts)
    wanted[into].setdefault("node", {})[name] = dict(keys)
    lines = [f"[node.{bare_or_quoted(name)}]", *(f"{key} = {_value(value)}" for key, value in keys.items())]
    patches[into].insert_after("node", "\n".join(lines))
    for group in groups:
        source = next((source for source, document in documents.items() if group in document.get("group", {})), None)
        if source is None:
            raise UsageError(f"there is no group {group!r}")
        wanted[source]["group"][group]["nodes"].append(name)
        patches[source].append_item(("group", group, "nodes"), name)
    return patches.made(wanted)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _string(value)
        case list():
            return f"[{', '.join(_value(item) for item in value)}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {_value(item)}' for key, item in value.items())} }}"
    raise TypeError(f"no value of a node: {value!r}")


def _string(text: str) -> str:
    escaped = "".join(f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    return f'"{escaped}"'


# ---------------------------------------------------------------- rename


def rename_node(texts: Texts, old: str, new: str) -> dict[str, str]:
    """
    Call a node by another name, wherever it is named.

    Raises:
        UsageError: there is no node *old*, or there is a node *new*, or a file is written in a way that this cannot edit.
    """
    documents = {source: toml.loads(text) for source, text in texts.items()}
    _known(documents, old)
    if any(new in document.get("node", {}) for document in documents.values()):
        raise UsageError(f"there is a node {new!r} already")
    wanted, patches = copy.deepcopy(documents), _Patches(texts)
    for source, document in documents.items():
        for path, text in _in_targets(document):
            if _host(text) == old:
                renamed = new + text[len(old) :]
                patches[source].set_text(path, renamed)
                _parent(wanted[source], path)[path[-1]] = renamed
        for path in _table_keys(document):
            if path[-1] == old:
                patches[source].rename(path, new)
                table = _parent(wanted[source], path)
                table[new] = table.pop(old)
    return patches.made(wanted)


def _known(documents: Mapping[str, Mapping[str, Any]], name: str) -> None:
    names = [each for document in documents.values() for each in document.get("node", {})]
    if name not in names:
        raise UsageError(f"there is no node {name!r}\n  hint: nodes are {', '.join(names[:12])}")


def _parent(document: Any, path: Path) -> Any:
    for part in path[:-1]:
        document = document[part]
    return document


# ---------------------------------------------------------------- remove


def remove_node(texts: Texts, name: str) -> dict[str, str]:
    """
    Take a node out, with its links, the expectations about it and its LANs, and its name in lists.

    Raises:
        UsageError: there is no such node, or a file is written in a way that this cannot edit.
    """
    documents = {source: toml.loads(text) for source, text in texts.items()}
    _known(documents, name)
    lans = [lan for document in documents.values() for lan in _lans(document.get("node", {}).get(name, {}))]
    wanted, patches = copy.deepcopy(documents), _Patches(texts)
    for source, document in documents.items():
        result, patch = wanted[source], patches[source]
        links = {index for index, link in enumerate(document.get("link", [])) if name in link["between"]}
        expects = {
            index
            for index, expect in enumerate(document.get("expect", []))
            if _about(expect["from"], name, lans) or _about(expect["to"], name, lans)
        }
        for path in _table_keys(document):
            if path[-1] == name and not (path[0] == "link" and path[1] in links):
                patch.remove_table(path)
                del _parent(result, path)[name]
        for path, items in _lists(document):
            if name in items and len(items) > 1:
                patch.remove_items(path, [items.index(name)])
                _parent(result, path)[path[-1]] = [item for item in items if item != name]
        for array, gone in (("link", links), ("expect", expects)):
            if gone:
                patch.remove_tables(array, sorted(gone))
                result[array] = [table for index, table in enumerate(result[array]) if index not in gone]
    return patches.made(wanted)


def _lists(document: Mapping[str, Any]) -> Iterator[tuple[Path, list[str]]]:
    """Every list of nodes that may do with one less."""
    candidates: list[Path] = [("network", "hub")]
    candidates += [("group", name, key) for name in document.get("group", {}) for key in ("nodes", "hub")]
    candidates += [("protect", index, "edge") for index in range(len(document.get("protect", [])))]
    for path in candidates:
        table = _parent(document, path) if path[0] in document else {}
        if isinstance(table.get(path[-1]), list):
            yield path, table[path[-1]]


def _lans(node: Mapping[str, Any]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for lan in node.get("lans", []):
        yield ipaddress.ip_network(lan["seen"] if isinstance(lan, dict) else lan)


def _about(text: str, name: str, lans: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether an expectation's `from` or `to` is the node, or lies in one of its LANs."""
    target = parse_target(text)
    if target.node is not None:
        return target.node == name
    address = ipaddress.ip_address(target.packed)
    return any(address in lan for lan in lans)


# ---------------------------------------------------------------- what came out


class _Patches:
    """A patch for each file, begun where it is first needed."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self.begun: dict[str, Patch] = {}

    def __getitem__(self, source: str) -> Patch:
        if source not in self.begun:
            self.begun[source] = Patch(self.texts[source])
        return self.begun[source]

    def made(self, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """The texts that changed, once they are read again and say what is *wanted*."""
        found: dict[str, str] = {}
        for source, patch in self.begun.items():
            text = patch.result()
            try:
                said = toml.loads(text)
            except tomllib.TOMLDecodeError:
                said = None
            if said is None or _normal(said) != _normal(wanted[source]):
                raise UsageError(f"{source}: written in a way that this cannot edit\n  hint: make the change by hand")
            if text != patch.original:
                found[source] = text
        return found


def _normal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same without lists and tables that say nothing by being empty."""
    found = copy.deepcopy(dict(document))
    for link in found.get("link", []):
        if link.get("ends") == {}:
            del link["ends"]
    if found.get("lab", {}).get("node") == {}:
        del found["lab"]["node"]
    return {key: value for key, value in found.items() if value not in ([], {})}
