"""`ginnel init`, `schema` and `node`: files are begun, edited and never spoiled."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import pytest

from ginnel.cli.main import run
from ginnel.cli.network import find
from ginnel.network import parse_lock, parse_network

TWO = """\
# Ours.
[network]
name = "acme"
pool = ["10.10.0.0/24"]
psk = "random"

# The head office.
[node.paris]   # reachable
endpoint = "203.0.113.10"
relay = true
lans = ["10.20.0.0/24"]

[node.lyon]

[group.branches]
nodes = ["lyon"]

[[expect]]
from = "lyon"
to = "10.20.0.5:443"
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """The commands, in a directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys

    def __call__(self, *argv: str) -> Done:
        self.capsys.readouterr()
        code = run(list(argv))
        return Done(code, *self.capsys.readouterr())

    def text(self, name: str = "network.toml") -> str:
        with (self.directory / name).open(newline="") as file:
            return file.read()

    def write(self, text: str, name: str = "network.toml") -> Path:
        path = self.directory / name
        path.write_bytes(text.encode())
        return path


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    home = tmp_path / "acme"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("NO_COLOR", "1")
    return Shell(home, capsys)


# ---------------------------------------------------------------- init


def test_init_writes_a_file_that_is_right_and_its_schema(shell: Shell) -> None:
    done = shell("init")
    assert done == Done(
        0,
        "wrote network.toml: the network acme, with two nodes to be replaced by yours\nwrote network.schema.json: for editors\n",
        "next: edit it, then `ginnel check`; `ginnel lab` rehearses it\n",
    )
    text = shell.text()
    assert text.startswith("#:schema network.schema.json\n")
    assert parse_network(text, "x").name == "acme"
    assert shell("schema") == Done(0, shell.text("network.schema.json"), "")
    assert json.loads(shell("node", "list", "--json").out)["schema"] == "ginnel.node-list/1"


def test_init_overwrites_nothing(shell: Shell) -> None:
    shell.write("mine")
    done = shell("init")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "ginnel: network.toml: exists already, and is not overwritten\n  hint: `ginnel node add network.toml NAME` adds to it\n"
    )
    assert shell.text() == "mine"
    (shell.directory / "dangling.toml").symlink_to("nowhere")
    assert shell("init", "dangling.toml").code == 1
    assert not (shell.directory / "nowhere").exists()
    shell.write("{}", "network.schema.json")
    assert shell("init", "other.toml").code == 0
    assert shell.text("network.schema.json") == "{}"


def test_init_takes_name_pools_and_a_place(shell: Shell) -> None:
    (shell.directory / "nets").mkdir()
    assert shell("init", "nets", "--name", "lab-1", "--pool", "10.99.0.0/16", "--pool", "fd99::/64", "--no-schema").code == 0
    text = shell.text("nets/network.toml")
    assert 'pool = ["10.99.0.0/16", "fd99::/64"]' in text
    assert "#:schema" not in text
    assert not (shell.directory / "nets" / "network.schema.json").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--name", "Acme!"], "expected a name of lower-case letters"),
        (["--pool", "10.0.0.1/24"], "expected the network address 10.0.0.0/24"),
        (["--pool", "0.0.0.0/0"], "use a smaller one"),
        (["--pool", "10.10.0.0/31", "--pool", "10.10.0.0/30"], "a network of these would have mistakes"),
        (["x.conf"], "expected the name of a network file"),
        (["x.lock.toml"], "expected the name of a network file"),
    ],
)
def test_init_refuses(shell: Shell, argv: list[str], said: str) -> None:
    done = shell("init", *argv)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert list(shell.directory.iterdir()) == []


def test_init_where_nothing_can_be_written(shell: Shell) -> None:
    done = shell("init", "no/such/network.toml")
    assert (done.code, done.err) == (1, "ginnel: no/such/network.toml: No such file or directory\n")


# ---------------------------------------------------------------- add


def test_add_puts_a_node_in_and_pins_its_address(shell: Shell) -> None:
    shell.write(TWO)
    words = ("--endpoint", "203.0.113.30:4500", "--lan", "10.30.0.0/24", "--lan", "10.31.0.0/24=192.168.1.0/24")
    done = shell("node", "add", "nice", *words, "--relay", "--group", "@branches", "--listen-port", "4500")
    assert done == Done(0, "network.toml: added nice\nnetwork.lock.toml: 10.10.0.3\n", "")
    new = (
        '[node.nice]\nendpoint = "203.0.113.30:4500"\n'
        'lans = ["10.30.0.0/24", { seen = "10.31.0.0/24", real = "192.168.1.0/24" }]\nrelay = true\nlisten_port = 4500\n\n'
    )
    assert shell.text() == TWO.replace("[group", f"{new}[group").replace('["lyon"]', '["lyon", "nice"]')
    assert set(parse_lock(shell.text("network.lock.toml"), "x").nodes) == {"paris", "lyon", "nice"}


def test_the_first_node_may_be_added_too_and_one_that_mends_the_rest(shell: Shell) -> None:
    shell.write('[network]\nname = "acme"\npool = ["10.10.0.0/24"]')
    assert shell("node", "add", "lyon").code == 0
    assert shell.text() == '[network]\nname = "acme"\npool = ["10.10.0.0/24"]\n\n[node.lyon]\n'
    shell.write(shell.text() + "\n[node.nice]\n")
    assert "both are behind NAT" in shell("node", "list").err
    assert shell("node", "add", "paris", "--endpoint", "203.0.113.1", "--relay").code == 0
    assert shell("node", "list").code == 0


def test_a_file_that_cannot_be_read_says_why(shell: Shell) -> None:
    for text, said in (
        ("[", "not TOML"),
        ("node = 3", "expected a table"),
        ("", "has no 'network'"),
        ("[tunnel.x]", "a node file"),
    ):
        shell.write(text)
        for argv in (["add", "lyon"], ["remove", "lyon"], ["rename", "lyon", "nice"], ["list"]):
            done = shell("node", *argv)
            assert (done.code, done.out, shell.text()) == (1, "", text)
            assert said in done.err
    shell.write(TWO)
    shell.write("version = 9", "network.lock.toml")
    assert "network.lock.toml:1:11: expected version" in shell("node", "add", "nice").err
    assert shell.text() == TWO


def test_add_takes_every_word_that_it_knows(shell: Shell) -> None:
    shell.write(TWO + "[region.south]\n")
    words = ("--region", "south", "--runs", "wg-quick", "--exit", "paris", "--dns", "10.20.0.53", "--address", "10.10.0.77")
    assert shell("node", "add", "network.toml", "phone", *words).code == 0
    node = parse_network(shell.text(), "x").node("phone")
    assert (node.region, node.runs, node.exit, node.dns) == ("south", "wg-quick", "paris", ("10.20.0.53",))
    assert shell("node", "list").out.splitlines()[-1].split()[:4] == ["phone", "behind", "NAT", "10.10.0.77"]


def test_what_would_be_wrong_is_not_written(shell: Shell) -> None:
    shell.write(TWO)
    done = shell("node", "add", "nice", "--lan", "10.20.0.0/25")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("ginnel: nothing was changed: the network would have mistakes\nnetwork.toml:16:9: nice's lan")
    assert shell.text() == TWO
    needed = TWO.replace("[node.lyon]", '[node.lyon]\nexit = "paris"')
    shell.write(needed)
    done = shell("node", "remove", "paris")
    assert (done.code, shell.text()) == (1, needed)
    assert "node.lyon.exit: there is no node 'paris'" in done.err
    assert [path.name for path in shell.directory.iterdir()] == ["network.toml"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["add", "Nice"], "expected a name of lower-case"),
        (["add", "lyon"], "there is a node 'lyon' already"),
        (["add", "nice", "--group", "x"], "there is no group 'x'"),
        (["add", "nice", "--into", "x.toml"], "no file of this network"),
        (["add", "a", "b", "c"], "expected [FILE] NAME, found 3 words"),
        (["remove", "nice"], "there is no node 'nice'"),
        (["rename", "nice", "rome"], "there is no node 'nice'"),
        (["rename", "lyon", "paris"], "there is a node 'paris' already"),
        (["rename", "lyon"], "expected [FILE] OLD NEW, found 1 words"),
        (["list", "none.toml"], "No such file"),
    ],
)
def test_calls_that_are_wrong(shell: Shell, argv: list[str], said: str) -> None:
    shell.write(TWO)
    done = shell("node", *argv)
    assert (done.code, done.out, shell.text()) == (2, "", TWO)
    assert said in done.err


def test_a_dry_run_shows_the_difference_and_writes_nothing(shell: Shell) -> None:
    shell.write(TWO)
    done = shell("node", "add", "nice", "-n")
    assert done.out.startswith("--- network.toml\n+++ network.toml\n@@ ")
    assert [line for line in done.out.splitlines()[3:] if line[0] in "+-"] == ["+[node.nice]", "+"]
    assert (shell.text(), list(shell.directory.iterdir())) == (TWO, [shell.directory / "network.toml"])


def test_mode_link_and_line_ends_stay(shell: Shell) -> None:
    real = shell.write(TWO.replace("\n", "\r\n"), "real.toml")
    real.chmod(0o640)
    (shell.directory / "network.toml").symlink_to("real.toml")
    assert shell("node", "add", "nice").code == 0
    assert (shell.directory / "network.toml").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert shell.text("real.toml") == TWO.replace("[group", "[node.nice]\n\n[group").replace("\n", "\r\n")
    assert sorted(path.name for path in shell.directory.iterdir()) == ["network.lock.toml", "network.toml", "real.toml"]


def test_somebody_elses_change_is_not_overwritten(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.write(TWO)

    def meanwhile(*arguments: object) -> object:
        shell.write(TWO + "# theirs\n")
        return read_network(*arguments)  # type: ignore[arg-type]

    from ginnel.cli import node
    from ginnel.network.file import read_network

    monkeypatch.setattr(node, "read_network", meanwhile)
    done = shell("node", "add", "nice")
    assert (done.code, shell.text()) == (1, TWO + "# theirs\n")
    assert "somebody else changed it" in done.err


# ---------------------------------------------------------------- remove, rename


def test_remove_takes_out_what_is_about_the_node_and_frees_its_address(shell: Shell) -> None:
    shell.write(TWO.replace('nodes = ["lyon"]', 'nodes = ["lyon", "paris"]'))
    shell("node", "add", "nice")
    assert shell("node", "remove", "lyon") == Done(0, "network.toml: removed lyon\n", "")
    assert "lyon" not in shell.text() + shell.text("network.lock.toml")
    assert "10.10.0.3" in shell.text("network.lock.toml"), "nobody else's changes"


def test_rename_keeps_addresses_and_keys(shell: Shell) -> None:
    shell.write(TWO)
    assert shell("keys", "new").code == 0
    before = parse_lock(shell.text("network.lock.toml"), "x")
    names = sorted(path.name for path in (shell.directory / "network.keys").iterdir())
    assert names == [".gitignore", "lyon+paris.psk", "lyon.key", "paris.key"]
    contents = {name: shell.text(f"network.keys/{name}") for name in names}
    done = shell("node", "rename", "lyon", "rome")
    assert done == Done(0, "network.toml: renamed lyon to rome\nnetwork.keys: paris+rome.psk rome.key\n", "")
    assert shell.text() == TWO.replace("lyon", "rome")
    after = parse_lock(shell.text("network.lock.toml"), "x")
    assert after.nodes["rome"].address == before.nodes["lyon"].address
    assert after.nodes["rome"].public_key == before.nodes["lyon"].public_key
    assert shell.text("network.keys/paris+rome.psk") == contents["lyon+paris.psk"]
    assert shell.text("network.keys/rome.key") == contents["lyon.key"]
    assert not (shell.directory / "network.keys" / "lyon.key").exists()
    assert shell("keys", "new").err == "nothing was missing\n"


def test_rename_loses_no_key_that_is_there_already(shell: Shell) -> None:
    shell.write(TWO)
    shell("keys", "new")
    mine = shell.directory / "network.keys" / "rome.key"
    mine.touch(mode=0o600)
    done = shell("node", "rename", "lyon", "rome")
    assert done.code == 1
    assert "a key must not be lost" in done.err
    assert (shell.text(), mine.read_text()) == (TWO, "")


# ---------------------------------------------------------------- directories, list


def test_a_directory_is_edited_where_the_node_is_named(shell: Shell) -> None:
    head, _, rest = TWO.partition("[node.lyon]")
    shell.write(head, "a.toml")
    shell.write("[node.lyon]" + rest, "b.toml")
    assert shell("node", "add", ".", "nice").out == "b.toml: added nice\nnetwork.lock.toml: 10.10.0.3\n"
    assert shell("node", "add", ".", "oslo", "--into", "a.toml").out.startswith("a.toml: added oslo\n")
    assert shell("node", "rename", ".", "paris", "rome").out == "a.toml: renamed paris to rome\n"
    assert sorted(path.name for path in shell.directory.iterdir()) == ["a.toml", "b.toml", "network.lock.toml"]
    assert [line.split()[0] for line in shell("node", "list", ".").out.splitlines()] == ["NODE", "rome", "oslo", "lyon", "nice"]
    shell.write(shell.text("b.toml") + "x = 3\n", "b.toml")
    assert "b.toml:11:1: [[expect]] number 1 knows no 'x'" in shell("node", "list", ".").err


def test_the_lock_of_one_file_stays_that_of_the_directory_it_grows_into(shell: Shell) -> None:
    shell.write(TWO, "acme.toml")
    shell("node", "add", "acme.toml", "nice")
    shell.write("[node.oslo]\n", "zz.toml")
    shell("node", "remove", ".", "lyon", "-n")
    assert shell("node", "list", ".").code == 0
    shell.write(
        shell.text("acme.toml").replace("[node.lyon]\n\n", "").replace('["lyon"]', '["oslo"]').replace('"lyon"', '"nice"'),
        "acme.toml",
    )
    assert re.search(r"nice +behind NAT +10\.10\.0\.3", shell("node", "list", ".").out), "and not 10.10.0.2, which is free now"


def test_node_files_that_lie_beside_are_none_of_the_network(shell: Shell) -> None:
    shell.write(TWO)
    node_file = shell.write('[node]\nforward = true\n[tunnel.gre1]\nkind = "gre"\n', "server.toml")
    assert find(shell.directory) == shell.directory / "network.toml", "the lab that was kept by either name is one"
    node_file.write_text('[tunnel.gre1]\n[node.oslo]\nendpoint = "203.0.113.9"\n')
    assert "knows no 'tunnel'" in shell("node", "list", ".").err, "what may have been meant as a node is not passed over"


def test_a_directory_without_a_network_file(shell: Shell) -> None:
    done = shell("node", "list", ".")
    assert (done.code, done.out) == (2, "")
    assert "a directory without a network file" in done.err
    assert "no network.toml here" in shell("node", "list").err


def test_list_is_for_people_and_for_programs(shell: Shell) -> None:
    shell.write(TWO.replace("[node.lyon]", '[node.lyon]\nexit = "paris"'))
    assert shell("node", "list").out == (
        "NODE   ENDPOINT      ADDRESSES  LANS          RUNS\n"
        "paris  203.0.113.10  10.10.0.1  10.20.0.0/24  ginnel  relay\n"
        "lyon   behind NAT    10.10.0.2                ginnel  exit paris\n"
    )
    nodes = json.loads(shell("node", "list", "--json").out)["nodes"]
    assert nodes[0] == {
        "name": "paris",
        "endpoint": "203.0.113.10",
        "addresses": ["10.10.0.1"],
        "lans": ["10.20.0.0/24"],
        "region": None,
        "relay": True,
        "hub": False,
        "exit": None,
        "runs": "ginnel",
    }
    assert nodes[1]["endpoint"] is None
    assert not os.path.exists("network.lock.toml"), "looking pins nothing"
