"""Nodes put in, taken out and renamed: on every example, and wherever a node may be named."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

import pytest

from ginnel.errors import UsageError
from ginnel.network.edit import add_node, mentions, remove_node, rename_node
from ginnel.network.language import tables
from unit.network.networks import HEAD, THREE, parsed

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path for path in ROOT.glob("examples/**/*.toml") if "\n[network]" in "\n" + path.read_text())

EVERYWHERE = f"""\
{HEAD}shape = "hub"
hub = ["paris", "lyon"]

[node.paris]
endpoint = "203.0.113.10"

# The second.
[node.lyon]  # stays
endpoint = "203.0.113.11"
lans = ["10.40.0.0/24"]
[node.lyon.hooks]
post-up = ["echo lyon"]

[node.nice]
exit = "paris"

[group.south]
nodes = [
  "lyon",  # the hub
  "nice",
]
shape = "hub"
hub = ["lyon"]

[[link]]
between = ["nice", "lyon"]
ends.lyon = {{ keepalive = 3 }}

[[link]]
between = ["paris", "@south"]
[link.ends.lyon]
keepalive = 4

[[protect]]
edge = ["paris", "lyon"]
origin = "nice"
addresses = ["203.0.113.64/28"]

[[expect]]
from = "lyon"
to = "paris"
[[expect]]
from = 'nice'
to = 'lyon:443'
[[expect]]
from = "nice"
to = "10.40.0.5"

[lab.node.lyon]
loss = "1%"
"""


def one(texts: dict[str, str]) -> str:
    (text,) = texts.values()
    return text


def changed(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_a_rename_finds_every_place_and_only_these() -> None:
    text = one(rename_node({"f": EVERYWHERE}, "lyon", "rome"))
    assert text == EVERYWHERE.replace("lyon", "rome").replace("echo rome", "echo lyon")
    assert one(rename_node({"f": text}, "rome", "lyon")) == EVERYWHERE


def test_every_key_that_names_a_node_is_known_to_be_one() -> None:
    """A new key whose value is a node's name has to be taught to `mentions`."""

    found = set()
    for table in tables.Table.__subclasses__() + tables.GreTable.__subclasses__() + tables.FaultsTable.__subclasses__():
        for name, hint in table.__annotations__.items():
            if any(word in hint for word in ("NodeName", "Names", "Member", "Source", "Target")):
                found.add((table.__name__, name))
    assert found == {
        ("NetworkTable", "hub"),
        ("NodeTable", "exit"),
        ("LinkTable", "between"),
        ("GroupTable", "nodes"),
        ("GroupTable", "hub"),
        ("ProtectTable", "edge"),
        ("ProtectTable", "origin"),
        ("ExpectTable", "source"),
        ("ExpectTable", "to"),
        ("LabTable", "node"),
    }
    assert len(mentions(tomllib.loads(EVERYWHERE), "lyon")) == EVERYWHERE.count("lyon") - 2, (
        "hooks are not, sub-tables are the table"
    )


def test_a_removal_takes_what_is_about_the_node_and_lets_the_rest_be() -> None:
    text = one(remove_node({"f": EVERYWHERE.replace('["lyon"]\n\n[[link]]', '["lyon", "nice"]\n\n[[link]]')}, "lyon"))
    assert (
        text
        == f"""\
{HEAD}shape = "hub"
hub = ["paris"]

[node.paris]
endpoint = "203.0.113.10"

[node.nice]
exit = "paris"

[group.south]
nodes = [
  "nice",
]
shape = "hub"
hub = ["nice"]

[[link]]
between = ["paris", "@south"]

[[protect]]
edge = ["paris"]
origin = "nice"
addresses = ["203.0.113.64/28"]
"""
    )


def test_a_new_node_comes_behind_the_last_one_and_into_its_groups() -> None:
    keys = {
        "endpoint": "vpn.example.org",
        "lans": ["10.50.0.0/24", {"seen": "10.51.0.0/24", "real": "10.0.0.0/24"}],
        "relay": True,
    }
    text = one(add_node({"f": EVERYWHERE}, "rome", keys, ["south"]))
    assert changed(EVERYWHERE, text) == [
        "+ [node.rome]",
        '+ endpoint = "vpn.example.org"',
        '+ lans = ["10.50.0.0/24", { seen = "10.51.0.0/24", real = "10.0.0.0/24" }]',
        "+ relay = true",
        "+ ",
        '+   "rome",',
    ]
    assert text.index("[node.nice]") < text.index("[node.rome]") < text.index("[group.south]")


def test_a_string_cannot_leave_its_quotes() -> None:
    text = one(add_node({"f": THREE}, "rome", {"endpoint": 'a"\n[node.evil]\nx = "\\\x1b'}))
    assert tomllib.loads(text)["node"]["rome"] == {"endpoint": 'a"\n[node.evil]\nx = "\\\x1b'}
    assert "\x1b" not in text


def test_several_files_change_where_the_node_is_named() -> None:
    files = {
        "a": HEAD + '[node.paris]\nendpoint = "203.0.113.1"\n',
        "b": "[node.lyon]\n",
        "c": '[[expect]]\nfrom = "lyon"\nto = "paris"\n',
    }
    assert rename_node(files, "lyon", "rome") == {"b": "[node.rome]\n", "c": files["c"].replace("lyon", "rome")}
    assert add_node(files, "rome", {}) == {"b": "[node.lyon]\n\n[node.rome]\n"}
    assert list(add_node(files, "rome", {}, into="a")) == ["a"]
    assert remove_node(files, "lyon") == {"b": "", "c": ""}


@pytest.mark.parametrize(
    "text",
    [
        f'{HEAD}[node]\nparis = {{ endpoint = "203.0.113.1" }}\nlyon = {{}}  # small\n',
        f'{HEAD}[node]\nparis.endpoint = "203.0.113.1"\nlyon.relay = false\nlyon.dns = []\n',
        f'{HEAD}[node.paris]\nendpoint = "203.0.113.1"\n["node" . "lyon"]\n[node.lyon.hooks]\n',
        f'link = [{{ between = ["paris", "lyon"] }}]\n{HEAD}[node.lyon]\n[node.paris]\nendpoint = "203.0.113.1"\n',
    ],
)
def test_however_the_tables_are_written(text: str) -> None:
    renamed = one(rename_node({"f": text}, "lyon", "rome"))
    assert [node.name for node in parsed(renamed).nodes].count("rome") == 1
    assert "lyon" not in renamed
    assert [node.name for node in parsed(one(remove_node({"f": text}, "lyon"))).nodes] == ["paris"]
    assert {node.name for node in parsed(one(add_node({"f": text}, "rome", {"endpoint": "203.0.113.9"}))).nodes} == {
        "paris",
        "lyon",
        "rome",
    }


def test_what_cannot_be_edited_is_not_changed_into_something_else() -> None:
    text = 'node = { paris = { endpoint = "203.0.113.1" } }\n' + HEAD
    with pytest.raises(UsageError, match="by hand"):
        add_node({"f": text}, "rome", {})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: add_node({"f": THREE}, "lyon", {}), "there is a node 'lyon' already"),
        (lambda: add_node({"f": THREE}, "rome", {}, ["south"]), "there is no group 'south'"),
        (lambda: rename_node({"f": THREE}, "rome", "nice"), "there is no node 'rome'"),
        (lambda: rename_node({"f": THREE}, "lyon", "paris"), "there is a node 'paris' already"),
        (lambda: remove_node({"f": THREE}, "rome"), "there is no node 'rome'"),
    ],
)
def test_names_that_are_none_or_taken(call: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_nodes_of_every_example(path: Path) -> None:
    text = path.read_text()
    for name in tomllib.loads(text)["node"]:
        renamed = one(rename_node({"f": text}, name, "another"))
        assert "another" in {node.name for node in parsed(renamed).nodes}
        assert one(rename_node({"f": renamed}, "another", name)) == text
        removed = remove_node({"f": text}, name)["f"]
        assert all(line[0] == "-" or '"' in line for line in changed(text, removed)), "nothing is added but shorter lists"
