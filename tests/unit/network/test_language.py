"""What the words of the network file mean in the model; groups taken apart; several files as one; no secret shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import ConfigError, Mistake
from ginnel.network import HostPort, Network, parse_network
from ginnel.network.file import parse_network_files, read_network
from ginnel.network.language import values
from ginnel.network.model import Group, LinkEnd, Mapped, Protect, Region
from ginnel.network.starter import starting_file
from ginnel.units import Prefix
from unit.network.networks import HEAD, THREE, mistakes, parsed

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(Prefix.parse, texts))


# ---------------------------------------------------------------- words


def test_a_node_with_every_key() -> None:
    network = parsed(
        f"""{HEAD}psk = "random"
dns = ["10.20.0.53"]
search = ["Corp.example", "~."]
keepalive = 20
[region.eu]
near = ["us"]
[region.us]
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24", {{ seen = "10.120.0.0/24", real = "192.168.1.0/24" }}]
region = "eu"
[node.lyon]
dns = []
search = ["lyon.example"]
interface = "wg7"
mtu = 1400
keepalive = 0
table = 51
fwmark = "0xCA6C"
hooks = {{ pre-up = ["a"], post-up = ["b %i", "c"], pre-down = ["d"], post-down = ["e"] }}
"""
    )
    paris, lyon = network.nodes
    assert (network.psk, paris.keepalive_s, paris.dns, paris.search) == ("random", 20, ("10.20.0.53",), ("corp.example", "~."))
    assert paris.lans == prefixes("10.20.0.0/24", "10.120.0.0/24")
    assert paris.mapped == (Mapped(*prefixes("10.120.0.0/24", "192.168.1.0/24")),)
    assert network.regions == (Region("eu", ("us",)), Region("us"))
    assert (lyon.dns, lyon.search, lyon.interface, lyon.mtu, lyon.keepalive_s) == ((), ("lyon.example",), "wg7", 1400, 0)
    assert (lyon.table, lyon.fwmark) == ("51", 0xCA6C)
    assert lyon.hooks == (("PreUp", "a"), ("PostUp", "b %i"), ("PostUp", "c"), ("PreDown", "d"), ("PostDown", "e"))


def test_a_link_has_words_for_each_of_its_ends() -> None:
    network = parsed(
        THREE
        + """
[[link]]
between = ["paris", "lyon"]
psk = true
ends.lyon = { allowed-ips = ["10.20.0.0/25"], endpoint = "198.51.100.1:4500", keepalive = 0 }
[[link]]
between = ["frankfurt", "paris"]
kind = "gre"
ends.paris = { device = "tun7" }
"""
    )
    first, second = network.links
    assert first.psk is True
    assert first.end("paris") == LinkEnd()
    assert first.end("lyon") == LinkEnd(prefixes("10.20.0.0/25"), HostPort("198.51.100.1", 4500), 0)
    assert second.end("paris").device == "tun7"


def test_several_hubs_and_a_protected_origin() -> None:
    network = parsed(
        f"""{HEAD}shape = "hub"
hub = ["a", "b"]
[node.a]
endpoint = "198.51.100.1"
[node.b]
endpoint = "198.51.100.2"
[node.c]
[[protect]]
edge = ["a", "b"]
origin = "c"
addresses = ["203.0.113.64/28"]
only-edges = true
uplink = "eth0"
"""
    )
    assert network.hubs == ("a", "b")
    assert network.protects == (Protect(("a", "b"), "c", prefixes("203.0.113.64/28"), True, "eth0"),)


# ---------------------------------------------------------------- groups

GROUPS = f"""{HEAD}shape = "none"
[node.hub]
endpoint = "203.0.113.1"
lans = ["10.1.0.0/24"]
[node.a]
endpoint = "203.0.113.2"
[node.b]
endpoint = "203.0.113.3"
[node.c]
[group.branches]
nodes = ["a", "b", "c"]
[group.all]
nodes = ["hub", "a", "b", "c"]
shape = "hub"
hub = "hub"
kind = "gre"
"""


def pairs(network: Network) -> list[tuple[str, ...]]:
    return [(*link.between, link.kind) for link in network.links]


def test_a_group_is_each_of_its_nodes() -> None:
    network = parsed(GROUPS + '[[link]]\nbetween = ["hub", "@branches"]\n[[expect]]\nfrom = "@branches"\nto = "hub:80"\n')
    assert pairs(network) == [("hub", name, "wireguard") for name in "abc"]
    assert [(expect.source, expect.target.text) for expect in network.expects] == [(name, "hub:80") for name in "abc"]
    assert network.groups[1] == Group("all", ("hub", "a", "b", "c"), "hub", ("hub",), "gre")


def test_a_pair_by_its_names_goes_before_one_by_a_group_and_a_later_group_before_an_earlier() -> None:
    explicit = '[[link]]\nbetween = ["b", "hub"]\nkind = "gre"\n'
    every = '[[link]]\nbetween = ["hub", "@branches"]\n'
    later = '[[link]]\nbetween = ["@all", "@branches"]\nkind = "gre+ipsec"\n'
    assert sorted(pairs(parsed(GROUPS + explicit + every))) == [
        ("b", "hub", "gre"),
        ("hub", "a", "wireguard"),
        ("hub", "c", "wireguard"),
    ]
    found = parsed(GROUPS + every + later.replace('"@all"', '"hub"') + explicit)
    assert sorted(pairs(found)) == [("b", "hub", "gre"), ("hub", "a", "gre+ipsec"), ("hub", "c", "gre+ipsec")]


def test_a_group_with_itself_is_a_mesh_of_its_nodes() -> None:
    network = parsed(
        GROUPS.replace("[node.c]", '[node.c]\nendpoint = "203.0.113.4"') + '[[link]]\nbetween = ["@branches", "@branches"]\n'
    )
    assert [link.between for link in network.links] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_both_ends_of_an_expectation_may_be_groups() -> None:
    text = GROUPS + '[[link]]\nbetween = ["hub", "@branches"]\n[[expect]]\nfrom = "@branches"\nto = "@all"\nreaches = true\n'
    network = parsed(text.replace("[node.hub]", "[node.hub]\nrelay = true"))
    assert len(network.expects) == 3 * 3, "nobody is asked to reach itself"
    assert {expect.row for expect in network.expects} == {0}


def test_mistakes_about_groups_name_the_table_that_was_written() -> None:
    links = '[[link]]\nbetween = ["hub", "@branches"]\n[[link]]\nbetween = ["hub", "hub"]\n'
    line = GROUPS.count("\n") + 4
    assert mistakes(GROUPS + links) == [f"{line}:11: link[1].between: hub cannot be linked with itself"]
    (wrong,) = mistakes(GROUPS + '[[link]]\nbetween = ["hub", "@branch"]\n')
    assert wrong.endswith("link[0].between: there is no group '@branch'")
    (wrong,) = mistakes(GROUPS + '[[link]]\nbetween = ["hub", "@branches"]\nkind = "gre"\nsubnet = ["10.10.0.0/30"]\n')
    assert wrong.endswith("link[0].subnet: that of one link, and this makes 3")


def test_groups_do_not_multiply_without_bound() -> None:
    names = [f"n{number}" for number in range(2000)]
    nodes = "".join(f'[node.{name}]\nendpoint = "h{name}.example"\n' for name in names)
    group = f"[group.g]\nnodes = {names}\n".replace("'", '"')
    (wrong,) = mistakes(HEAD.replace("/24", "/16") + 'shape = "none"\n' + nodes + group + '[[link]]\nbetween = ["@g", "@g"]\n')
    assert wrong.endswith("more than 1000000 links by name")
    many = '[[expect]]\nfrom = "@g"\nto = "@g"\n'
    assert "more than 100000 expectations" in mistakes(HEAD.replace("/24", "/16") + nodes + group + many)[0]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node.x]\nlans = [{ seen = \"10.9.0.0/24\", real = \"10.8.0.0/23\" }]\n", "two prefixes of one family and length"),
        ("[node.x]\nlans = [{ seen = \"10.9.0.0/24\", real = \"10.9.0.0/24\" }]\n", "is seen as what it is"),
        ("[node.x]\nlans = [{ seen = \"10.9.0.0/24\", rea = \"10.8.0.0/24\" }]\n", "expected { seen ="),
        ("[node.x]\nhooks = { post-up = [\"a\\nb\"] }\n", "a command on one line"),
        ("[node.x]\nhooks = { post-up = [\"a\\u001b[2J\"] }\n", "a command on one line"),
        ("[node.x]\nhooks = { post_up = [\"a\"] }\n", "knows no 'post_up'"),
        ("[node.x]\ntable = \"../x\"\n", "a routing table's number or name"),
        ("[node.x]\nfwmark = 4294967296\n", 'expected "off" or a number'),
        ("[node.x]\nkeepalive = 65536\n", "expected 65535 or less"),
        ("[node.x]\nsearch = [\"a b\"]\n", "expected a domain such as example.org"),
        ("[node.x]\ndns = [\"fe80::1%eth0\"]\n", "expected an IP address"),
        ("[node.x]\ninterface = \"a/b\"\n", "an interface name"),
        ("[node.x]\nregion = \"eu\"\n", "there is no region 'eu'"),
        ("[group.g]\nnodes = []\n", "at least 1"),
        ("[group.g]\nnodes = [\"nobody\"]\n", "there is no node 'nobody'"),
        ("[group.g]\nnodes = [\"paris\"]\nshape = \"hub\"\n", "needs to know which node"),
        ("[group.g]\nnodes = [\"paris\"]\nshape = \"hub\"\nhub = \"lyon\"\n", "lyon is not in the group"),
        ("[region.eu]\nnear = [\"us\"]\n", "there is no region 'us'"),
        ("[[protect]]\nedge = []\norigin = \"lyon\"\naddresses = [\"203.0.113.1/32\"]\n", "a list of 1 to 1000"),
        ("[[protect]]\nedge = [\"paris\", \"paris\"]\norigin = \"lyon\"\naddresses = [\"1.1.1.1/32\"]\n", "stands there twice"),
        ("[[link]]\nbetween = [\"paris\", \"lyon\"]\nends.nice = {}\n", "nice is no end of this link"),
        ("[[link]]\nbetween = [\"paris\", \"lyon\"]\nends.lyon = { device = \"x\" }\n", "has no device of its own"),
        ("[[link]]\nbetween = [\"paris\", \"lyon\"]\nkind = \"gre\"\npsk = true\n", "an option of WireGuard links"),
        ("[[expect]]\nfrom = \"@nobody\"\nto = \"paris\"\n", "there is no group '@nobody'"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, said: str) -> None:
    assert any(said in found for found in mistakes(THREE + text)), mistakes(THREE + text)


@pytest.mark.parametrize(
    ("wrong", "right"), [("listen-port", "listen_port"), ("Endpoint", "endpoint"), ("endpiont", "endpoint"), ("look", "hooks")]
)
def test_a_wrong_key_gets_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{right}'" if wrong != "look" else "did you mean '|it knows endpoint"):
        parsed(f"{THREE}{wrong} = 1\n")


@pytest.mark.parametrize(
    "text",
    [
        f'{HEAD}psk = "{KEY}"\n[node.a]\n',
        f'{HEAD}psk = "hunter2 {KEY[:9]}"\n[node.a]\n',
        f'{HEAD}[node.a]\nlans = ["{KEY}"]\n',
        f'{HEAD}[node.a]\n"{KEY}" = 1\n',
        f'{HEAD}[node."{KEY}"]\n',
        f'{HEAD}[node.a]\nruns = "{KEY}"\n',
        f'{HEAD}[node.a]\nendpoint = "{KEY}:1"\n',
        f'{HEAD}[node.a]\n[[link]]\nbetween = ["a", "a"]\npsk = "{KEY}"\n',
        f'{HEAD}[node.a]\n[[link]]\nbetween = ["a", "a"]\nends.a = {{ psk = "{KEY}" }}\n',
        f'{HEAD}[node.a]\n[[expect]]\nfrom = "{KEY}"\nto = "{KEY}"\n',
        f'{HEAD}[node.a]\nhooks = {{ post-up = ["wg set %i private-key {KEY}\\n"] }}\n',
        f'{HEAD}[node.a]\nx = "{KEY}\n',
        f'{HEAD}[node.a]\npassword = "{KEY[:9]}"\n',
        f'{HEAD}[ipsec]\nike = ["{KEY}"]\n[node.a]\n',
        f'{HEAD}kind = "{KEY}"\n[node.a]\n',
        f'{HEAD}[node.a]\nexit = "{KEY}"\n',
        f'{HEAD}[node.a]\n[group.g]\nnodes = ["{KEY}"]\n',
        f'{HEAD}[node.a]\n[[link]]\nbetween = ["a", "{KEY}"]\n',
    ],
)
def test_what_looks_like_a_key_is_never_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert KEY[:9] not in str(caught.value)
    assert KEY[:9] not in repr(caught.value.mistakes)


def test_a_choice_about_preshared_keys_is_no_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(
            f'{HEAD}psk = "random"  # for all\n[node.a]\nrelay = true\n[[link]]\nbetween = ["a", "a"]\npsk = true\nkind = "gre"\n'
        )
    assert "    psk = true" in str(caught.value)


def told(text: str) -> list[Mistake]:
    """The mistakes themselves."""
    with pytest.raises(ConfigError) as caught:
        parse_network(text, "network.toml")
    return list(caught.value.mistakes)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('AllowedIPs = ["10.0.0.0/8"]', "AllowedIPs follow from what stands behind each node"),
        ("PersistentKeepalive = 25", "did you mean 'keepalive'?"),
        ("ListenPort = 51820", "did you mean 'listen_port'?"),
        ("port = 51820", "did you mean 'listen_port'?"),
        ('public_key = "x"', "ginnel keys new NODE --public KEY"),
        ('PostUp = "true"', "hooks.post-up"),
        ('dns = "10.0.0.53"', "a list has brackets, also of one"),
        ('runs = "wgquick"', "did you mean 'wg-quick'?"),
    ],
)
def test_the_words_of_other_files_lead_to_ours(wrong: str, said: str) -> None:
    (mistake,) = told(f'{HEAD}[node.a]\nendpoint = "203.0.113.1"\n{wrong}\n')
    assert said in mistake.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Interface]\nAddress = 10.0.0.1/24\n", "expected a network file, found a file for wg-quick"),
        ("version = 1\n[node.a]\naddress = []\n", "expected a network file, found a lock file"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(text: str, said: str) -> None:
    (mistake,) = told(text)
    assert (mistake.message, mistake.code) == (said, "G0906")
    assert mistake.hint


@pytest.mark.parametrize(("line", "said"), [("[node.a]", "[node.a]"), ('runs = "other"', "runs")])
def test_what_is_said_a_second_time_has_its_place(line: str, said: str) -> None:
    (mistake,) = told(f"{HEAD}[node.a]\n{line if line[0] != '[' else ''}\n{line}\n")
    assert mistake.message == f"{said} is said a second time"
    assert mistake.span is not None
    assert (mistake.span.column, mistake.span.length) == (1, len(said))


def test_a_wrong_word_about_preshared_keys_is_no_secret_and_a_key_is() -> None:
    (word,) = told(f'{HEAD}psk = "yes"\n[node.a]\n')
    assert word.hint == "psk says how keys are made; none stands in this file"
    assert word.code == "G0904"
    (key,) = told(f'{HEAD}psk = "{KEY}"\n[node.a]\n')
    assert key.code == "G0905"
    for mistake in (word, key):
        assert "yes" not in mistake.message
        assert KEY not in mistake.message + mistake.excerpt


def test_an_ipv6_endpoint_with_a_port_has_brackets() -> None:
    (mistake,) = told(f'{HEAD}[node.a]\nendpoint = "2001:db8::1:51820"\n')
    assert "has brackets: [2001:db8::1]:51820" in mistake.message


def test_a_key_that_is_said_a_second_time_is_not_shown() -> None:
    (mistake,) = told(f'{HEAD}"{KEY}" = 1\n"{KEY}" = 2\n')
    assert KEY[:20] not in mistake.message + mistake.excerpt


def test_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(f'{HEAD}[node.a]\n"\\u001b[2J" = "\x9b2J\u202e"\nlans = ["\\u001b[31m"]\nruns = "\\u0007"\n')
    assert not [char for char in str(caught.value) if not char.isprintable() and char != "\n"]


# ---------------------------------------------------------------- several files

SPLIT = {
    "a-network.toml": f'{HEAD}[gre]\ncsum = true\n[[expect]]\nfrom = "paris"\nto = "lyon"\n',
    "b-sites.toml": '[node.paris]\nendpoint = "203.0.113.1"\nrelay = true\n\n'
    '[node.lyon]\n[[link]]\nbetween = ["paris", "lyon"]\n',
    "c-more.toml": '[node.nice]\nexit = "paris"\n[[link]]\nbetween = ["nice", "paris"]\n'
    "[lab.node.nice]\nloss = 0.1\n[lab]\nseed = 3\n",
}


def of(files: dict[str, str]) -> Network:
    return parse_network_files(list(files.items()), "net")


def wrong(files: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        of(files)
    return str(caught.value)


def test_several_files_are_one_network() -> None:
    text = SPLIT["a-network.toml"].replace("[[expect]]", SPLIT["b-sites.toml"] + SPLIT["c-more.toml"] + "[[expect]]")
    assert of(SPLIT) == parse_network(text, "x")
    assert len(of(SPLIT).links) == 2


def test_a_mistake_names_its_own_file_and_line() -> None:
    files = {**SPLIT, "c-more.toml": SPLIT["c-more.toml"].replace('["nice", "paris"]', '["nice", "pari"]')}
    assert wrong(files).splitlines()[:3] == [
        "c-more.toml:4:20: link[1].between: there is no node 'pari' [G0907]",
        '    between = ["nice", "pari"]',
        "                       ^^^^^^",
    ]
    files = {**SPLIT, "b-sites.toml": SPLIT["b-sites.toml"] + "x = 3\n", "c-more.toml": SPLIT["c-more.toml"] + "y = 3\n"}
    found = wrong(files)
    assert "b-sites.toml:8:1: [[link]] number 1 knows no 'x'" in found
    assert "c-more.toml:9:1: [lab] knows no 'y'" in found
    assert "b-sites.toml:1:1" in wrong({**SPLIT, "b-sites.toml": "["})


def test_nothing_is_said_twice() -> None:
    assert wrong({**SPLIT, "d.toml": "\n[node.paris]\nrelay = true\n[gre]\nseq = true\n"}) == (
        "d.toml:2:1: node.paris: stands in two files [G0911]\n    [node.paris]\n    ^^^^^^^^^^^^\n"
        "  and b-sites.toml:1:1:\n    [node.paris]\n    ^^^^^^^^^^^^\n  hint: keep one of them\n"
        "d.toml:4:1: gre: stands in two files [G0911]\n    [gre]\n    ^^^^^\n"
        "  and a-network.toml:4:1:\n    [gre]\n    ^^^^^\n  hint: keep one of them"
    )
    assert "lab.seed: stands in two files [G0911]" in wrong({**SPLIT, "d.toml": "[lab]\nseed = 4\n"})
    assert "node: stands in two files [G0911]" in wrong({**SPLIT, "d.toml": "node = 3\n"})
    assert "link: stands in two files [G0911]" in wrong({**SPLIT, "d.toml": "link = 3\n"})


def test_a_node_file_that_lies_beside_is_none_of_it() -> None:
    assert of({**SPLIT, "server.toml": '[tunnel.gre1]\nkind = "gre"\n'}) == of(SPLIT)
    assert "knows no 'tunnel'" in wrong({**SPLIT, "d.toml": "[tunnel.gre1]\n[node.rome]\n"})


def test_a_mistake_of_no_file_names_the_directory() -> None:
    files = {name: text for name, text in SPLIT.items() if name != "a-network.toml"}
    assert wrong(files).startswith("net: the file has no 'network'")


def test_places_name_file_and_line() -> None:
    sources = read_network(list(SPLIT.items()), "net").sources
    place = sources.place(("link", 1, "between", 0))
    assert (place.source, place.span.line if place.span else 0, place.excerpt) == (
        "c-more.toml",
        4,
        'between = ["nice", "paris"]',
    )
    assert sources.place(("expect", 0, "from")).source == "a-network.toml"
    assert sources.place(("nothing",)).source == "net"


def test_too_many_files() -> None:
    assert "at most 1000 files" in wrong({f"{number}.toml": "" for number in range(1001)})


# ---------------------------------------------------------------- the starting file


@pytest.mark.parametrize("pool", [["10.10.0.0/24", "fd10:10::/64"], ["10.0.0.0/8"], ["fd00::/48"], ["172.16.0.0/12"]])
def test_the_starting_file_is_right_and_so_is_all_that_it_has_as_comments(pool: list[str]) -> None:
    text = starting_file("acme", prefixes(*pool))
    network = parse_network(text, "network.toml")
    assert [node.name for node in network.nodes] == ["paris", "lyon"]
    whole = parse_network(re.sub(r"(?m)^#(?=[^ :])", "", text), "network.toml")
    assert {node.name for node in whole.nodes} == {"paris", "lyon", "berlin", "phone"}
    assert whole.groups
    assert whole.regions
    assert whole.protects
    assert whole.links
    assert max(map(len, text.splitlines())) <= 130


def test_pools_that_leave_nothing_for_an_example() -> None:
    with pytest.raises(ValueError, match="use a smaller one"):
        starting_file("acme", prefixes("0.0.0.0/0"))


# ---------------------------------------------------------------- anything at all

WORDS = [
    "network",
    "node",
    "region",
    "group",
    "gre",
    "ipsec",
    "link",
    "protect",
    "expect",
    "lab",
    "paris",
    "lyon",
    "name",
    "pool",
]
WORDS += [
    "endpoint",
    "lans",
    "seen",
    "real",
    "hub",
    "shape",
    "between",
    "ends",
    "kind",
    "psk",
    "from",
    "to",
    "edge",
    "origin",
    "near",
]
WORDS += [
    "nodes",
    "hooks",
    "post-up",
    "addresses",
    "keepalive",
    "loss",
    "block",
    "ike",
    "mtu",
    "fwmark",
    "table",
    "dns",
    "search",
]
TEXTS = [
    "paris",
    "lyon",
    "@g",
    "10.0.0.0/8",
    "10.0.0.1",
    "::1",
    "hub",
    "mesh",
    "gre",
    "wireguard",
    "1%",
    "20ms",
    "",
    "\x00",
    "é",
    "~.",
]
SCALARS = st.one_of(
    st.sampled_from(TEXTS),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.just("A" * 5000),
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5), max_leaves=12
)


def toml(value: object) -> str:
    """A value as TOML has it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            kept = (char if char.isalnum() and char.isascii() else f"\\U{ord(char):08x}" for char in value)
            return f'"{"".join(kept)}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{" + ", ".join(f'"{key}" = {toml(item)}' for key, item in value.items()) + "}"
        case _:
            return str(value)


def refused_with_reasons(text: str) -> None:
    found: tuple[Mistake, ...] = ()
    try:
        parse_network(text, "x")
    except ConfigError as error:
        found = error.mistakes or (Mistake(""),)
    assert all(0 < len(mistake.message) < 5000 for mistake in found)


@given(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=8))
def test_any_tree_is_a_network_or_a_config_error(tree: dict[str, object]) -> None:
    refused_with_reasons("".join(f"{key} = {toml(value)}\n" for key, value in tree.items()))


STARTING = re.sub(r"(?m)^#(?=[^ :])", "", starting_file("acme", prefixes("10.10.0.0/24")))


@given(st.data())
def test_a_right_file_with_a_value_exchanged(data: st.DataObject) -> None:
    lines = STARTING.splitlines()
    at = data.draw(st.sampled_from([index for index, line in enumerate(lines) if " = " in line and line[0] != "#"]))
    key = lines[at].partition(" = ")[0]
    lines[at] = f"{key} = {toml(data.draw(TREES))}"
    refused_with_reasons("\n".join(lines))


@given(st.data())
def test_a_right_file_with_a_piece_cut_out_or_put_elsewhere(data: st.DataObject) -> None:
    lines = STARTING.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        moved = lines.pop(data.draw(st.integers(0, len(lines) - 1)))
        if data.draw(st.booleans()):
            lines.insert(data.draw(st.integers(0, len(lines))), moved)
    start = data.draw(st.integers(0, 3))
    refused_with_reasons("\n".join(lines)[start:])


def test_numbers_of_thousands_of_digits() -> None:
    for number in (f"0x{'f' * 9000}", "9" * 9000, f"0b{'1' * 50000}"):
        for key in ("fwmark", "listen_port", "relay", "lans", "mtu", "endpoint", "keepalive"):
            refused_with_reasons(f"{HEAD}[node.a]\n{key} = {number}\n")
        refused_with_reasons(f"{HEAD}[node.a]\n[lab]\nloss = {number}\nseed = {number}\nblock = [{number}]\n")


@pytest.mark.parametrize(
    "parse", [getattr(values, name) for name in dir(values) if name.startswith("parse_")], ids=lambda parse: parse.__name__
)
@given(value=SCALARS | TREES)
def test_any_value_is_parsed_or_refused_in_one_line(parse: object, value: object) -> None:
    said = ""
    try:
        parse(value)  # type: ignore[operator]
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 500
