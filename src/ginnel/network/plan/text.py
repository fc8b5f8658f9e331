"""A plan as a person reads it: a block a host, a line a step with its commands below, and how many there are of each."""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.network.plan.steps import HostPlan, Plan, Step

_MARKS = {"new": "+", "gone": "-", "changed": "~"}
_SESSIONS = {
    "kept": "",
    "renewed": "a new handshake, without a gap",
    "broken": "no session until the other side has its step, too",
    "new": "",
    "ended": "",
}


def render(plan: Plan, *, commands: bool = True) -> str:
    """The text of *plan*; *commands*: with the words that do each step."""
    if plan.empty:
        return f"Nothing to do: {_hosts(plan.unchanged)} as {'it' if plan.unchanged == 1 else 'they'} should be.\n"
    lines = [line for host in plan.hosts for line in (*_host(host, commands=commands), "")]
    return "\n".join([*lines, summary(plan)]) + "\n"


def summary(plan: Plan) -> str:
    """One line."""
    counted = plan.counted()
    words = [f"{counted[status]} {status}" for status in ("new", "changed", "gone") if counted[status]]
    words.append(f"{counted['same']} as they should be")
    return f"Plan: {', '.join(words)}."


def _hosts(number: int) -> str:
    return "1 host is" if number == 1 else f"{number} hosts are"


def _host(host: HostPlan, *, commands: bool) -> Iterator[str]:
    broken = any(step.sessions == "broken" for step in host.steps)
    sessions = "" if host.status != "changed" else "; sessions break" if broken else "; sessions survive"
    steps = "" if host.status != "changed" else f" {len(host.steps)} step{'s' if len(host.steps) != 1 else ''}{sessions}"
    yield f"{_MARKS[host.status]} {host.name}:{steps}" + ("" if host.status == "changed" else f" {host.steps[0].text}")
    for step in host.steps:
        if host.status == "changed":
            yield f"    {_step(step)}"
        if commands:
            yield from (f"        {line}" for line in step.lines())


def _step(step: Step) -> str:
    where = " ".join(part for part in (step.device, step.peer) if part)
    note = _SESSIONS[step.sessions]
    return (f"{where}: " if where else "") + step.text + (f" ({note})" if note else "")
