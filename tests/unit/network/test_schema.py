"""The JSON Schema and the reference: both say what the tables say, and the schema judges as the parser does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from ginnel.network import schema
from unit.network.networks import HEAD, THREE, mistakes

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
EXAMPLES = sorted(path for path in ROOT.glob("examples/**/*.toml") if "\n[network]" in "\n" + path.read_text())


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    made = schema.json_schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def test_the_schema_file_is_current() -> None:
    assert (REFERENCE / "network.schema.json").read_text() == schema.schema_text(), (
        "ginnel schema > docs/reference/network.schema.json"
    )


@pytest.mark.parametrize(("title", "table"), schema.SECTIONS)
def test_the_reference_has_every_table_word_for_word(title: str, table: type[BaseModel]) -> None:
    text = (REFERENCE / "network-file.md").read_text()
    rows = "\n".join(schema.rows(table))
    assert f"| --- | --- | --- |\n{rows}\n\n" in text, f"docs/reference/network-file.md lacks, or says otherwise:\n{rows}"


def test_every_key_has_a_meaning_and_so_has_every_table() -> None:
    made = schema.json_schema()
    for name, table in {"the file": made, **made["$defs"]}.items():
        assert table["description"], name
        assert table["additionalProperties"] is False, name
        for key, item in table["properties"].items():
            assert item.get("description"), f"{name}.{key}"


def test_nothing_of_pydantic_shows() -> None:
    text = schema.schema_text()
    assert '"null"' not in text
    assert '"shown"' not in text
    assert json.loads(text)["$defs"]["NodeTable"]["properties"]["runs"]["enum"][0] == "ginnel"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_is_valid(validator: Draft202012Validator, path: Path) -> None:
    assert [error.message for error in validator.iter_errors(tomllib.loads(path.read_text()))] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize(
    "text",
    [
        THREE.replace("lans", "lan"),
        THREE.replace("10.20.0.0/24", "10.20.0.0"),
        THREE + "[node.Nice]\n",
        THREE + '[node.nice]\nruns = "wireguard"\n',
        THREE + "[node.nice]\nhooks = { pre_up = [] }\n",
        THREE + '[node.nice]\nlans = [{ seen = "10.9.0.0/24" }]\n',
        THREE + '[[link]]\nbetween = ["paris"]\n',
        THREE + '[[link]]\nbetween = ["paris", "lyon"]\nends.lyon = { allowed = [] }\n',
        THREE + '[[expect]]\nto = "paris"\n',
        THREE + '[[protect]]\nedge = "paris"\norigin = "lyon"\naddresses = []\n',
        THREE + "[gre]\nkeepalive = { intervall = 3 }\n",
        THREE + "[lab]\nloss = 3\n",
        HEAD,
        HEAD.replace('name = "acme"', "name = 3") + "[node.a]\n",
        HEAD + 'psk = "hunter2"\n[node.a]\n',
    ],
)
def test_wrong_files_are_wrong_for_both(validator: Draft202012Validator, text: str) -> None:
    assert mistakes(text)
    assert list(validator.iter_errors(tomllib.loads(text)))
