"""
Every format, byte for byte, for networks that ask everything of it; what it cannot do, by what it says.

`GOLDEN=write pytest tests/unit/network/render/test_golden.py` writes the files anew, and fails: look at what changed, and run it
again without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginnel.errors import UsageError
from ginnel.network import NodeDescription
from ginnel.network.render import NONE, Secrets, renderer
from unit.network.render.render_networks import SHOWN, node, secrets

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("ginnel", "wg-quick", "setconf", "node", "networkd", "networkmanager", "netplan", "iproute2")
#: Where secrets stand in files is told by these; elsewhere they would hide what else changes.
WITH_KEYS = (("sites", "lyon"), ("sites", "phone"), ("odd", "iris"))


def cases() -> Iterator[tuple[str, str, str, bool]]:
    for form in FORMATS:
        for network, (_, names) in SHOWN.items():
            for name in names:
                yield form, network, name, False
        for network, name in WITH_KEYS:
            yield form, network, name, True


def shown(form: str, description: NodeDescription, known: Secrets) -> str:
    """All files of a node one behind the other, or what is said instead."""
    try:
        files = renderer(form).files(description, known)
    except UsageError as error:
        return f"==== refused\n{error}\n"
    parts = []
    for file in files:
        marks = [word for word in ("secret", "private", "executable") if getattr(file, word)]
        parts.append(f"==== {file.where}{file.name}{''.join(f' {mark}' for mark in marks)}\n{file.text}")
    return "".join(parts)


@pytest.mark.parametrize(("form", "network", "name", "keys"), list(cases()))
def test_the_exact_bytes(form: str, network: str, name: str, keys: bool) -> None:
    description = node(network, name)
    found = shown(form, description, secrets(description) if keys else NONE)
    path = GOLDEN / form / f"{network}-{name}{'-keys' if keys else ''}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
        pytest.fail(f"{path.name} written: look at it, and run this again without GOLDEN")
    assert found == path.read_text()


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_secret_without_secrets_and_everything_is_marked_with_them(form: str) -> None:
    for network, (_, names) in SHOWN.items():
        for name in names:
            description = node(network, name)
            known = secrets(description)
            everything = [known.private_key, *known.psk.values(), *known.ipsec.values()]
            try:
                without, within = renderer(form).files(description), renderer(form).files(description, known)
            except UsageError:
                continue
            assert not any(file.secret or secret in file.text for file in without for secret in everything)
            for file in within:
                assert file.secret == any(secret in file.text for secret in everything), file.name


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{form}/{network}-{name}{'-keys' if keys else ''}.txt" for form, network, name, keys in cases()}
    there = {str(path.relative_to(GOLDEN)) for form in FORMATS for path in (GOLDEN / form).glob("*")}
    assert there == wanted
