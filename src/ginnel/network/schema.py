"""
The JSON Schema of the network file, and the rows of its reference: both made from the tables that read it.

Editors take it from a file that the network file's first line names (`#:schema network.schema.json`, as taplo and its extensions
have it; `ginnel init` writes both): completion, a key's meaning under the pointer, a wrong key underlined. It judges form alone,
and is a little more lenient than the parser, which is what decides: that a name is some node's, or that a prefix has no host bits
set, no schema can say.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from ginnel.network.language import tables

DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: A name, no place: each release has its own beside the network file.
SCHEMA_ID = "urn:ginnel:network-file:1"

#: What the reference calls each table, in its order.
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[network]", tables.NetworkTable),
    ("[node.NAME]", tables.NodeTable),
    ("hooks", tables.HooksTable),
    ("[region.NAME]", tables.RegionTable),
    ("[group.NAME]", tables.GroupTable),
    ("[[link]]", tables.LinkTable),
    ("ends.NAME", tables.EndTable),
    ("[gre]", tables.GreTable),
    ("[ipsec]", tables.IpsecTable),
    ("[[protect]]", tables.ProtectTable),
    ("[[expect]]", tables.ExpectTable),
    ("[lab]", tables.LabTable),
)


def json_schema() -> dict[str, Any]:
    """The schema: draft 2020-12, a description with every key."""
    plain: dict[str, Any] = _plain(tables.NetworkFile.model_json_schema(by_alias=True))
    return {"$schema": DRAFT, "$id": SCHEMA_ID, "title": "ginnel network file", **plain}


def schema_text() -> str:
    """The schema as its file has it: the same bytes for the same tables."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any, *, names: bool = False) -> Any:
    """
    Without what pydantic adds and TOML has not: titles, null, defaults that are tables.

    names: the keys of *value* are names of the file, not words of the schema.
    """
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if names:
        return {key: _plain(item) for key, item in value.items()}
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key in ("title", "shown") or (key == "default" and (item is None or isinstance(item, dict))):
            continue
        found[key] = _plain(item, names=key in ("properties", "$defs"))
    some = found.get("anyOf")
    if isinstance(some, list) and {"type": "null"} in some:
        others = [item for item in some if item != {"type": "null"}]
        del found["anyOf"]
        found = {**(others[0] if len(others) == 1 else {"anyOf": others}), **found}
    return found


# ---------------------------------------------------------------- the reference


def rows(table: type[BaseModel]) -> list[str]:
    """One row of Markdown for each key of *table* that is its own: `| key | meaning | default |`."""
    above = set(tables.GreTable.model_fields) if table is tables.LinkTable else set()
    return [
        f"| `{info.alias or name}` | {info.description} | {_default(info)} |"
        for name, info in table.model_fields.items()
        if name not in above and name != "node"
    ]


def _default(info: Any) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if "shown" in extra:
        return str(extra["shown"])
    if info.is_required():
        return "required"
    default = extra.get("default", info.default)
    if default is None or default == () or info.default_factory is not None:
        return "none"
    return f"`{json.dumps(default)}`" if not isinstance(default, float) else f"`{default:g}`"


def section(title: str, table: type[BaseModel]) -> str:
    """A table of the reference under its heading: what `docs/reference/network-file.md` holds word for word."""
    head = f"## `{title}`\n\n{table.__doc__}\n\n| key | meaning | default |\n| --- | --- | --- |\n"
    return head + "\n".join(rows(table)) + "\n"
