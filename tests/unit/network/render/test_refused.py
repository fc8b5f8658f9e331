"""What may not be in a rendered file is not: other languages' words in names, hooks that end a line, formats without a thing."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ginnel.errors import UsageError
from ginnel.network import NodeDescription
from ginnel.network.model import HostPort
from ginnel.network.render import FORMATS, NONE, Secrets, qr, renderer
from ginnel.network.render.routing import routing
from unit.network.networks import HEAD, compiled
from unit.network.render.render_networks import SHOWN, node, secrets, with_hooks

MINE = ("ginnel", "wg-quick", "setconf", "networkd", "networkmanager", "netplan", "iproute2", "qr", "png")
LYON = node("sites", "lyon")


def of_node(**changes: object) -> NodeDescription:
    return dataclasses.replace(LYON, node=dataclasses.replace(LYON.node, **changes))  # type: ignore[arg-type]


def of_peer(**changes: object) -> NodeDescription:
    first, *others = LYON.peers
    return dataclasses.replace(LYON, peers=(dataclasses.replace(first, **changes), *others))  # type: ignore[arg-type]


HOSTILE: dict[str, Callable[[str], NodeDescription]] = {
    "network": lambda text: dataclasses.replace(LYON, network=text),
    "node": lambda text: of_node(name=text),
    "interface": lambda text: dataclasses.replace(LYON, interface=text),
    "table": lambda text: of_node(table=text),
    "dns": lambda text: dataclasses.replace(LYON, dns=(text,)),
    "search": lambda text: dataclasses.replace(LYON, dns=("10.0.0.1",), search=(text,)),
    "peer": lambda text: of_peer(name=text),
    "endpoint": lambda text: of_peer(endpoint=HostPort(text, 51820)),
}


@pytest.mark.parametrize("form", MINE)
@pytest.mark.parametrize("where", HOSTILE)
def test_no_format_takes_words_of_its_language_for_a_name(form: str, where: str) -> None:
    for text in ("x\nPostUp = id", "$(id)", "x y", "x;id", "x'y", 'x"y', "x\\", "`id`", "x\x1b[2J", "", "x[y]"):
        with pytest.raises(UsageError) as told:
            renderer(form).files(HOSTILE[where](text), secrets(LYON))
        assert str(told.value).isprintable() or "\n  hint" in str(told.value), text


@pytest.mark.parametrize("form", MINE)
@pytest.mark.parametrize(
    ("key", "command"), [("PostUp", "a\nb"), ("PostUp", "a\0b"), ("PostUp", "a\rb"), ("Address", "10.0.0.1/8")]
)
def test_no_format_takes_a_hook_of_two_lines(form: str, key: str, command: str) -> None:
    with pytest.raises(UsageError):
        renderer(form).files(with_hooks(LYON, (key, command)), secrets(LYON))


def test_wg_quick_ends_a_line_at_a_hash_so_no_hook_has_one() -> None:
    with pytest.raises(UsageError, match="'#'"):
        renderer("wg-quick").files(with_hooks(LYON, ("PostUp", "echo '#'")))


@pytest.mark.parametrize("form", MINE)
def test_a_secret_that_is_none_is_refused_and_not_shown(form: str) -> None:
    for known in (Secrets("not a key\nPostUp = id"), Secrets(secrets(LYON).private_key, {"paris": "x\nEndpoint = y"})):
        with pytest.raises(UsageError) as told:
            renderer(form).files(LYON, known)
        assert "PostUp" not in str(told.value)
        assert "Endpoint" not in str(told.value)


def test_hooks_are_run_by_the_script_and_a_broken_one_keeps_nothing_up(tmp_path: Path) -> None:
    hooks = [
        ("PreUp", "echo 1 %i >> log # and no more"),
        ("PostUp", "cd / && echo 'two  blanks' >> $OLDPWD/log"),
        ("PreDown", "echo ) this is no shell"),
        ("PostDown", "echo 3 '#' >> log"),
    ]
    (file,) = renderer("iproute2").files(with_hooks(LYON, *hooks), secrets(LYON))
    # All that would touch this machine is nothing here.
    without = "".join(f"{name}() {{ cat >/dev/null </dev/null; }}\n" for name in ("ip", "wg", "nft", "resolvconf"))
    script = file.text.replace("set -eu\n", f"set -eu\n{without}", 1).replace("/proc/sys", str(tmp_path / "proc"))
    for directory in ("net/ipv4", "net/ipv6/conf/all"):
        (tmp_path / "proc" / directory).mkdir(parents=True)
    (tmp_path / "it.sh").write_text(script)
    for verb in ("up", "down"):
        subprocess.run(["sh", "it.sh", verb], cwd=tmp_path, check=True)
    assert (tmp_path / "log").read_text() == "1 wg0\ntwo  blanks\n3 #\n"


def test_formats_that_run_no_hooks_say_so() -> None:
    hooked = with_hooks(LYON, ("PostUp", "logger 'it is up'"))
    for form in ("networkd", "networkmanager", "netplan"):
        first, *_ = renderer(form).files(hooked)
        assert "runs no hooks; this node has: PostUp = logger 'it is up'\n" in first.text


def test_every_format_is_there_and_the_list_of_an_unknown_one_has_them() -> None:
    for name in FORMATS:
        assert callable(renderer(name).files)
    with pytest.raises(UsageError, match="wg-quick, setconf"):
        renderer("windows")


# ---------------------------------------------------------------- phones


def test_a_code_holds_a_key_so_it_needs_one() -> None:
    phone = node("sites", "phone")
    with pytest.raises(UsageError, match="private key of phone"):
        renderer("qr").files(phone, NONE)
    with pytest.raises(UsageError, match="preshared key of phone and paris"):
        renderer("png").files(phone, Secrets(secrets(phone).private_key))


def test_what_no_phone_does_is_refused() -> None:
    with pytest.raises(UsageError, match="forwarding"):
        renderer("qr").files(node("sites", "paris"), secrets(node("sites", "paris")))
    phone = with_hooks(node("sites", "phone"), ("PostUp", "id"))
    with pytest.raises(UsageError, match="hooks"):
        renderer("qr").files(phone, secrets(phone))
    with pytest.raises(UsageError, match="WireGuard alone"):
        renderer("qr").files(node("odd", "iris"), secrets(node("odd", "iris")))


def test_what_is_too_long_for_a_code_is_refused_with_its_length() -> None:
    nodes = "".join(f'[node.n{number}]\nendpoint = "203.0.113.{number}"\n' for number in range(1, 40))
    description = compiled(f"{HEAD}{nodes}[node.phone]\n")["phone"]
    with pytest.raises(UsageError, match="2953"):
        renderer("qr").files(description, secrets(description))
    assert len(qr.text(description, secrets(description))) > qr.MAX_BYTES


def test_the_apps_know_every_key_in_a_code() -> None:
    known = {
        "Interface": {"PrivateKey", "Address", "ListenPort", "DNS", "MTU"},
        "Peer": {"PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"},
    }
    section = ""
    for line in qr.text(node("sites", "phone"), secrets(node("sites", "phone"))).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        else:
            assert line.partition(" = ")[0] in known[section]


# ---------------------------------------------------------------- routing


def test_routes_are_wg_quicks() -> None:
    def shown(network: str, name: str, **changes: object) -> tuple[list[str], str, tuple[int, ...], int]:
        description = node(network, name)
        changed = dataclasses.replace(description, node=dataclasses.replace(description.node, **changes))  # type: ignore[arg-type]
        ways = routing(changed)
        return [str(prefix) for prefix in ways.routes], ways.table, ways.full, ways.mark

    # The prefixes of the pools are on-link; the longer prefix first.
    assert shown("sites", "paris") == (["10.30.0.0/24", "fd10:30::/64"], "", (), 0)
    assert shown("sites", "lyon") == (["10.20.0.0/24"], "1234", (), 0x10)
    assert shown("sites", "phone") == ([], "", (4, 6), 51820)
    assert shown("sites", "phone", fwmark=7) == ([], "", (4, 6), 7)
    assert shown("sites", "phone", table="off") == ([], "", (), 0)
    assert shown("sites", "phone", table="9") == (["0.0.0.0/0", "::/0"], "9", (), 0)
    assert shown("sites", "phone", table="main") == (["0.0.0.0/0", "::/0"], "", (), 0)
    assert shown("plain", "basil") == ([], "", (), 0)


def test_the_same_description_renders_to_the_same_bytes() -> None:
    for network, (_, names) in SHOWN.items():
        for name in names:
            for form in MINE:
                try:
                    first = renderer(form).files(node(network, name), secrets(node(network, name)))
                except UsageError:
                    continue
                assert first == renderer(form).files(node(network, name), secrets(node(network, name)))


# ---------------------------------------------------------------- the examples

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*/network.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_node_of_an_example_has_files_as_what_it_runs_and_else_a_hint(path: Path) -> None:
    refused: dict[tuple[str, str], str] = {}
    nodes = compiled(path.read_text())
    for name, description in nodes.items():
        for form in FORMATS:
            try:
                assert renderer(form).files(description, secrets(description))
            except UsageError as error:
                refused[name, form] = str(error)
    assert not [name for name, form in refused if form == nodes[name].node.runs]
    assert not [said for (_, form), said in refused.items() if form in MINE and "\n  hint: " not in said]
