"""Every mistake of a network file by its code: one planted into a file that is in order, and nothing but that found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ginnel.errors import ConfigError
from ginnel.network import Lock, allocate, parse_lock
from ginnel.network.check import check, remarks_on
from ginnel.network.codes import CODES
from ginnel.network.file import read_form
from ginnel.network.findings import Finding, of_mistake, ordered, paragraph
from unit.network.test_lint_faults import FAULTS

FILE = """\
[network]
name = "acme"
pool = ["10.10.0.0/24", "fd10:10::/64"]
#NETWORK
[node.paris]
endpoint = "203.0.113.10"
relay = true
lans = ["10.20.0.0/24"]
#PARIS
[node.berlin]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24"]
#BERLIN
[node.lyon]
lans = ["10.40.0.0/24"]
#LYON
[node.nice]
#NICE
"""
GRE = '[[link]]\nbetween = ["paris", "berlin"]\nkind = "gre"\n'
IPSEC = '[[link]]\nbetween = ["paris", "berlin"]\nkind = "gre+ipsec"\n'
HIDDEN = '[[link]]\nbetween = ["paris", "lyon"]\nkind = "gre"\n'
PROTECT = '[[protect]]\nedge = "paris"\norigin = "lyon"\naddresses = ["192.0.2.64/28"]\n'

#: Code; what stands at a mark of the file, or (old, new); what follows it.
ROWS: list[tuple[str, dict[str, str], str]] = [
    ("G0201", {}, '[[link]]\nbetween = ["lyon", "nice"]\n'),
    ("G0204", {"#PARIS": "", "203.0.113.10": "10.30.0.5"}, ""),
    ("G0208", {"relay = true\n": ""}, ""),
    ("G0209", {"#NETWORK": 'shape = "hub"'}, ""),
    ("G0209", {}, '[group.x]\nnodes = ["paris", "lyon"]\nshape = "hub"\n'),
    ("G0210", {"#NETWORK": 'hub = "paris"'}, ""),
    ("G0211", {"#NETWORK": 'shape = "hub"\nhub = "lyon"'}, ""),
    ("G0212", {"#LYON": "relay = true"}, ""),
    ("G0213", {"#PARIS": 'exit = "paris"'}, ""),
    ("G0214", {"#LYON": 'exit = "paris"', "#PARIS": 'exit = "berlin"'}, ""),
    ("G0215", {"#LYON": 'exit = "nice"'}, ""),
    ("G0216", {"#LYON": 'exit = "paris"'}, HIDDEN),
    ("G0217", {"#LYON": 'exit = "berlin"'}, HIDDEN),
    ("G0218", {}, HIDDEN + 'encapsulation = "none"\n'),
    ("G0219", {}, HIDDEN.replace('"gre"', '"gre+ipsec"') + '[link.ipsec]\nencapsulation = "raw"\n'),
    ("G0220", {"#LYON": 'region = "eu"'}, '[region.eu]\nnear = ["eu"]\n'),
    ("G0221", {}, "[region.asia]\n"),
    ("G0222", {}, '[group.x]\nnodes = ["berlin", "lyon"]\nshape = "hub"\nhub = "paris"\n'),
    ("G0230", {"#NETWORK": 'shape = "none"'}, PROTECT),
    ("G0231", {}, PROTECT.replace('"lyon"', '"paris"')),
    ("G0232", {}, PROTECT.replace('"paris"', '"nice"').replace('"lyon"', '"berlin"')),
    ("G0233", {}, PROTECT.replace("192.0.2.64/28", "10.30.0.64/28")),
    ("G0233", {}, PROTECT.replace("192.0.2.64/28", "10.0.0.0/8")),
    ("G0233", {}, PROTECT + PROTECT.replace('"lyon"', '"nice"')),
    ("G0234", {}, PROTECT.replace('"lyon"', '"berlin"')),
    ("G0235", {"#LYON": 'exit = "paris"'}, PROTECT),
    ("G0236", {'"10.10.0.0/24", ': ""}, PROTECT),
    ("G0237", {}, PROTECT.replace("192.0.2.64/28", "2001:db8:64::/64") + 'uplink = "eth0"\n'),
    ("G0330", {"#BERLIN": 'runs = "wg-quick"'}, GRE),
    ("G0332", {"198.51.100.20": "2001:db8::20"}, GRE),
    ("G0333", {}, IPSEC + 'encapsulation = "udp"\n'),
    ("G0334", {}, IPSEC + "keepalive = 10\n"),
    ("G0335", {}, GRE + "pmtudisc = false\nttl = 64\n"),
    ("G0336", {}, GRE + "ignore-df = true\n"),
    ("G0337", {"198.51.100.20": "2001:db8::20", "203.0.113.10": "2001:db8::10"}, GRE + 'pmtudisc = false\nttl = "inherit"\n'),
    ("G0338", {}, HIDDEN + "key = 7\n" + HIDDEN.replace("lyon", "nice") + "key = 7\n"),
    ("G0401", {"#PARIS": 'address = ["10.10.0.7"]', "#BERLIN": 'address = ["10.10.0.7"]'}, ""),
    ("G0402", {"10.30.0.0/24": "10.20.0.128/25"}, ""),
    ("G0404", {"198.51.100.20": "203.0.113.10"}, ""),
    ("G0405", {"10.30.0.0/24": "10.10.0.0/16"}, ""),
    ("G0410", {"10.10.0.0/24": "10.10.0.0/30"}, ""),
    ("G0411", {"#PARIS": 'address = ["10.99.0.7"]'}, ""),
    ("G0411", {}, GRE + 'subnet = ["10.99.0.0/30"]\n'),
    ("G0412", {}, GRE + 'subnet = ["10.10.0.64/30", "10.10.0.68/30"]\n'),
    ("G0413", {"#NETWORK": 'kind = "gre"', "#BERLIN": 'address = ["10.10.0.7"]'}, ""),
    ("G0414", {"198.51.100.20": "2001:db8::20", "#NETWORK": 'outer = "ipv4"'}, ""),
    (
        "G0415",
        {"198.51.100.20": "203.0.113.10:51821", "#BERLIN": "listen_port = 51821"},
        HIDDEN + HIDDEN.replace("paris", "berlin").replace("lyon", "nice"),
    ),
    ("G0416", {}, GRE + 'subnet = ["10.10.0.64/28"]\n'),
    ("G0417", {"#NETWORK": 'interface = "gre-paris"'}, GRE),
    ("G0417", {}, GRE + '[link.ends.paris]\ndevice = "wg0"\n'),
    ("G0418", {"#NETWORK": 'kind = "gre"', "#BERLIN": 'dns = ["10.20.0.53"]'}, ""),
    (
        "G0421",
        {
            '["10.30.0.0/24"]': '[{ seen = "10.30.0.0/24", real = "192.168.1.0/24" }, '
            '{ seen = "10.31.0.0/24", real = "192.168.1.0/24" }]'
        },
        "",
    ),
    ("G0422", {'"10.30.0.0/24"': '{ seen = "10.30.0.0/24", real = "10.40.0.0/24" }'}, ""),
    ("G0501", {"#NETWORK": "mtu = 1480"}, ""),
    ("G0501", {"#BERLIN": "mtu = 1480"}, ""),
    ("G0501", {}, GRE + "mtu = 1490\n"),
    ("G0502", {"#BERLIN": "underlay_mtu = 1300"}, ""),
    ("G0702", {}, '[[expect]]\nfrom = "10.99.0.1"\nto = "paris"\n'),
    ("G0703", {}, '[[expect]]\nfrom = "lyon"\nto = "10.99.0.1"\n'),
    ("G0901", {"[network]": "[network"}, ""),
    ("G0902", {"endpoint": "endpiont"}, ""),
    ("G0903", {'name = "acme"\n': ""}, ""),
    ("G0904", {"10.30.0.0/24": "10.30.0.1/24"}, ""),
    ("G0905", {"#PARIS": 'private_key = "x"'}, ""),
    ("G0906", {}, "TUNNEL"),
    ("G0907", {"#LYON": 'exit = "pairs"'}, ""),
    ("G0907", {"#LYON": 'region = "eu"'}, ""),
    ("G0907", {}, '[[link]]\nbetween = ["paris", "@nobody"]\n'),
    ("G0908", {"#NETWORK": 'kind = "openvpn"'}, ""),
    ("G0909", {}, '[[link]]\nbetween = ["paris", "paris"]\n'),
    ("G0910", {}, GRE + GRE),
    ("G0911", {}, "TWICE"),
    ("G0912", {}, '[[link]]\nbetween = ["paris", "berlin"]\nkey = 7\n'),
    ("G0913", {}, "LOCK"),
]


def findings(text: str, extra: str) -> Iterator[Finding]:
    """All that a file's own rules say."""
    files = [("network.toml", text + (extra if extra not in ("TUNNEL", "TWICE", "LOCK") else ""))]
    if extra == "TUNNEL":
        files = [("edge.toml", '[tunnel.gre1]\nkind = "gre"\n')]
    if extra == "TWICE":
        files.append(("more.toml", "[node.paris]\n"))
    try:
        parsed = read_form(files, "network.toml")
        mistakes = check(parsed.network, parsed.sources)
        yield from (of_mistake(each, "network.toml") for each in mistakes or remarks_on(parsed.network, parsed.sources))
        if not mistakes:
            allocate(
                parsed.network, parse_lock("<<<<<<< ours\n" if extra == "LOCK" else "version = 1\n", "lock") if extra else Lock()
            )
    except ConfigError as error:
        yield from (of_mistake(each, error.source) for each in error.mistakes)


@pytest.mark.parametrize(("code", "changes", "extra"), ROWS, ids=[row[0] for row in ROWS])
def test_a_mistake_has_its_code_and_its_place(code: str, changes: dict[str, str], extra: str) -> None:
    assert list(findings(FILE, "")) == []
    text = FILE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    found = list(findings(text, extra))
    assert {each.code for each in found} == {code}, [(each.code, each.message) for each in found]
    for each in found:
        shown = paragraph(each)
        assert f"{each.severity} {code} {each.slug}: " in shown[0]
        assert each.places
        if code not in ("G0906", "G0913"):
            assert each.places[0].span is not None
            assert code == "G0905" or len(shown) >= 3, shown


def test_every_code_is_found_by_some_row() -> None:
    rows = {row[0] for row in ROWS} | {row.code for row in FAULTS}
    # Those of the model of packets, of imports and of files that are not there have tests of their own.
    elsewhere = {code for code in CODES if code[1:3] == "08"} | {"G0701", "G0704", "G0914"}
    assert set(CODES) - rows - elsewhere == set()
    assert len(rows) >= 60


def test_findings_are_ordered_and_said_once() -> None:
    warning, error = Finding("G0307", "b"), Finding("G0402", "a")
    assert ordered([warning, error, warning]) == [error, warning]
