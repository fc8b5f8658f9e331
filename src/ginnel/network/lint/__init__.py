"""
What is wrong between hosts, as they are configured: `lint(hosts) -> findings`.

It makes no difference who configured them: hosts are compiled from a network file or read from what runs. Each rule is one
function of a `View` and yields its findings; none is an error of a rule before it. What a host's configuration does not say, it
is not blamed for: of a host whose file is not at hand nothing is assumed, and a forwarding switch that nothing mentions is not
off.

    view                what all rules ask: who is whose peer, who has what
    prefixes, routes    chapter 01: AllowedIPs of both ends; what one host does by itself
    ways                chapter 01: packets that go through several hosts
    reaching            chapter 02: who can begin, NAT, endpoints inside of tunnels
    ends                chapter 03: both ends of WireGuard links
    pairs, tunnels,     chapter 03: both ends of GRE, IP in IP and IPsec
    ipsec
    addresses           chapter 04
    sizes               chapter 05
    secrets             chapter 06
    plain               networks in order, and whether they stay so when hosts come or go
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ginnel.network.findings import Finding
from ginnel.network.host import Host
from ginnel.network.lint import addresses, ends, prefixes, reaching, routes, secrets, sizes, tunnels, ways
from ginnel.network.lint.plain import Plain
from ginnel.network.lint.view import View

__all__ = ["MAX_FINDINGS_A_RULE", "Linted", "lint"]

#: More is never read by a person; the rest is counted.
MAX_FINDINGS_A_RULE = 50

#: A fault of one link spoils all ways through it; that is told once.
_CAUSES = frozenset({"G0101", "G0102", "G0104"})
_CONSEQUENCES = frozenset({"G0106", "G0108"})

RULES: tuple[Callable[[View], Iterable[Finding]], ...] = (
    *prefixes.RULES,
    *routes.RULES,
    *ways.RULES,
    *reaching.RULES,
    *ends.RULES,
    *tunnels.RULES,
    *addresses.RULES,
    *sizes.RULES,
    *secrets.RULES,
)


def lint(hosts: Sequence[Host]) -> list[Finding]:
    """
    Find what is wrong between hosts.

    Args:
        hosts: all that are known of, their names distinct.

    Returns:
        the findings, by rule; the same for the same hosts.
    """
    view = View(hosts)
    found = [finding for rule in RULES for finding in _bounded(rule(view))]
    causes = {frozenset(finding.nodes) for finding in found if finding.code in _CAUSES}
    return [finding for finding in found if finding.code not in _CONSEQUENCES or not _follows(finding, causes)]


@dataclass(frozen=True, slots=True)
class Linted:
    """
    What was found between hosts, to go on from when some of them change.

    Of a network in order only what changes is looked at (`plain` says when that is enough); of any other, everything.
    """

    findings: tuple[Finding, ...]
    #: None: everything is looked at next time.
    plain: Plain | None

    @classmethod
    def of(cls, hosts: Sequence[Host]) -> Linted:
        """As `lint`."""
        found = tuple(lint(hosts))
        return cls(found, None if found else Plain.of(hosts))

    def updated(self, hosts: Sequence[Host]) -> Linted:
        """
        What is found between the hosts that there are now.

        The same as `Linted.of(hosts)` finds; but of more ways than `ways.MAX_WALKS`, of which both walk a part, each its own.
        """
        following = self.plain.with_hosts(hosts) if self.plain is not None else None
        return Linted((), following) if following is not None else Linted.of(hosts)


def _follows(finding: Finding, causes: set[frozenset[str]]) -> bool:
    """Whether a way is lost because of a link on it that has been told of."""
    nodes = frozenset(finding.nodes)
    return any(cause <= nodes for cause in causes)


def _bounded(found: Iterable[Finding]) -> Iterator[Finding]:
    counted: dict[str, int] = {}
    for finding in found:
        counted[finding.code] = counted.get(finding.code, 0) + 1
        if counted[finding.code] <= MAX_FINDINGS_A_RULE:
            yield finding
    for code, number in counted.items():
        if number > MAX_FINDINGS_A_RULE:
            yield Finding(code, f"and {number - MAX_FINDINGS_A_RULE} more of the same")
