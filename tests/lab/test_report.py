"""The verdict: good only when every finding is; the cause before its consequences; the tables say it in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ginnel.lab import table
from ginnel.lab.report import (
    CaptureReport,
    DnsReport,
    ExpectReport,
    Finding,
    LabReport,
    LinkReport,
    MtuReport,
    NodeReport,
    ReachReport,
    ThroughputReport,
)

YES, NO = Finding(True, "seen"), Finding(False, "not seen")

GOOD = LabReport(
    network="acme",
    lab_id="12ab",
    seconds=4.25,
    nodes=(NodeReport("paris", "ginnel", False, "wg0", ("10.10.0.1/24",), ("10.20.0.0/24",), 1420, 0.25, YES),),
    links=(LinkReport(("paris", "lyon"), YES, YES, YES, 0.5),),
    reachability=(
        ReachReport("lan-paris", "lan-lyon", 4, True, True, 1.5, ("paris", "lyon"), "answered"),
        ReachReport("lan-paris", "lan-lyon", 6, True, True, 2.5, ("paris", "lyon"), "answered"),
        ReachReport("lan-lyon", "lan-paris", 4, False, False, 0.0, (), "no answer"),
    ),
    expectations=(ExpectReport("lyon", "10.20.0.5:443", True, YES),),
    mtu=(MtuReport(("paris", "lyon"), 1420, "1500 - 80 = 1420", YES),),
    throughput=ThroughputReport("lan-paris", "lan-lyon", ("paris", "lyon"), 4.5, 3.0, YES),
    dns=(DnsReport("phone", YES),),
    capture=CaptureReport((), YES),
)


def test_all_good() -> None:
    assert GOOD.ok
    assert table.verdict(GOOD) == ["acme: all is as the file says (4.2 s)"]


LINK = GOOD.links[0]
REACH = GOOD.reachability[0]
BLOCKED = replace(LINK, kind="gre", faults=("blocks gre on the way to lyon",))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (replace(GOOD, nodes=(replace(GOOD.nodes[0], up=NO),)), "paris did not come up: not seen"),
        (replace(GOOD, links=(replace(LINK, configured=NO),)), "paris — lyon is not configured as planned: not seen"),
        (replace(GOOD, links=(replace(LINK, alive=NO),)), "paris — lyon is configured, but not alive: not seen"),
        (replace(GOOD, links=(replace(LINK, carrying=NO),)), "paris — lyon is alive, but not carrying: not seen"),
        (replace(GOOD, reachability=(replace(REACH, found=False),)), "lan-paris does not reach lan-lyon over IPv4: answered"),
        (replace(GOOD, reachability=(replace(REACH, expected=False),)), "lan-paris reaches lan-lyon over IPv4: answered"),
        (
            replace(GOOD, expectations=(replace(GOOD.expectations[0], finding=NO),)),
            "expected lyon to reach 10.20.0.5:443: not seen",
        ),
        (replace(GOOD, mtu=(replace(GOOD.mtu[0], proven=NO),)), "the MTU of paris — lyon is not 1420: not seen"),
        (replace(GOOD, dns=(DnsReport("phone", NO),)), "names on phone are not resolved as planned: not seen"),
        (replace(GOOD, throughput=ThroughputReport("a", "b", ("a", "b"), 0.0, 3.0, NO)), "no throughput was measured: not seen"),
        (replace(GOOD, capture=CaptureReport((), NO)), "the underlay is not clean: not seen"),
    ],
)
def test_each_thing_that_is_wrong_is_said_with_what_to_look_at(bad: LabReport, says: str) -> None:
    assert not bad.ok
    (failure,) = bad.failures
    assert failure.what == says
    assert failure.look_at
    assert says in table.plain(bad)
    assert bad.to_json()["ok"] is False


def test_a_silent_gre_link_names_what_the_lab_does_to_it() -> None:
    (failure,) = replace(GOOD, links=(replace(BLOCKED, alive=NO),)).failures
    assert failure.look_at == (
        "paris, lyon: the ends, the keys, what blocks GRE (protocol 47) between them; "
        "this file's lab blocks gre on the way to lyon"
    )
    (failure,) = replace(GOOD, links=(replace(BLOCKED, carrying=NO),)).failures
    assert failure.look_at == "paris, lyon: routes (ip route get), forwarding"
    hole = replace(GOOD.mtu[0], proven=NO, faults=("blocks icmp on the way to lyon",))
    (failure,) = replace(GOOD, mtu=(hole,)).failures
    assert failure.look_at == "1500 - 80 = 1420; this file's lab blocks icmp on the way to lyon"


def test_the_kind_of_links_is_told_where_there_is_more_than_wireguard() -> None:
    assert "kind" not in table.plain(GOOD)
    lines = table.plain(replace(GOOD, links=(LINK, BLOCKED))).splitlines()
    head = next(line for line in lines if line.lstrip().startswith("link "))
    assert head.split() == ["link", "kind", "configured", "alive", "carrying"]


def test_ways_over_a_broken_link_are_its_consequence() -> None:
    bad = replace(GOOD, links=(replace(LINK, alive=NO),), reachability=(replace(REACH, found=False),) * 2)
    assert [failure.what for failure in bad.failures] == [
        "paris — lyon is configured, but not alive: not seen",
        "2 of 2 ways fail with the links above",
    ]


def test_where_the_model_and_the_lab_differ_is_a_failure_of_its_own() -> None:
    expected = replace(
        GOOD.expectations[0], model=True, found=False, model_said="lyon → paris", finding=NO, path=("lyon", "paris")
    )
    (failure,) = replace(GOOD, expectations=(expected,)).failures
    assert failure.what == ("the model says that lyon reaches 10.20.0.5:443 (lyon → paris), and in the lab it does not: not seen")
    # As the file says, and yet not as the model says: one of the two is wrong.
    lucky = replace(expected, reaches=False, finding=YES)
    assert [one.what for one in replace(GOOD, expectations=(lucky,)).failures] == [
        "the model says that lyon reaches 10.20.0.5:443 (lyon → paris), and in the lab it does not: seen"
    ]
    # Over a broken link it is the link's failure, and its consequence.
    broken = replace(GOOD, links=(replace(LINK, alive=NO),), expectations=(expected,))
    assert [one.what for one in broken.failures][1:] == ["expected lyon to reach 10.20.0.5:443: not seen"]
    (failure,) = replace(GOOD, reachability=(replace(REACH, found=False, model="paris → lyon", path=()),)).failures
    assert failure.look_at == "the model says otherwise: paris → lyon"


def test_the_json_is_versioned_and_complete() -> None:
    document = json.loads(json.dumps(GOOD.to_json()))
    assert (document["schema"], document["ok"], document["id"], document["seconds"]) == ("ginnel.lab/1", True, "12ab", 4.25)
    assert set(document) == {
        *("schema", "ok", "id", "network", "seconds", "nodes", "links", "reachability", "expectations"),
        *("mtu", "throughput", "dns", "protects", "capture", "failures"),
    }
    assert document["reachability"][2] | {"ok": True, "expected": False} == document["reachability"][2]


def test_the_plain_table() -> None:
    lines = table.plain(GOOD).splitlines()
    assert "  paris — lyon  yes: seen   yes: seen  yes: seen" in lines
    assert "  lan-paris  ·          2.5 ms (4+6)" in lines  # itself; the slower family
    assert "  lan-lyon   apart      ·" in lines  # what must not be reached, and is not
    assert "MTU: 1500 - 80 = 1420" in lines


def test_many_places_become_a_list_of_what_is_wrong() -> None:
    names = [f"lan-{index}" for index in range(table.MAX_MATRIX + 1)]
    reaches = tuple(replace(REACH, source=a, target=b) for a in names for b in names if a != b)
    wrong = replace(reaches[0], found=False, said="no answer")
    text = table.plain(replace(GOOD, reachability=(wrong, *reaches[1:])))
    assert f"reachability: {len(reaches) - 1} of {len(reaches)} ways as the file says" in text
    assert "  lan-0  lan-1  IPv4  no answer" in text
