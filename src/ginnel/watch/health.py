"""
The three-part truth, judged from evidence.

    configured   what runs can work as it was described: a key, an interface that is up, prefixes, and a way to reach the peer
    alive        both sides hold a session that is younger than REJECT_AFTER_TIME (180 s)
    carrying     what we send is answered: authenticated bytes came back, and no data that we sent is still unanswered

The three are independent evidence, never derived from one another: a tunnel can be alive and carry nothing (a firewall behind
the peer, wrong AllowedIPs over there), and carry nothing simply because nobody asked it to. That is why the answer may be
`unknown`, with what is missing.

How long silence may last is not measured here: a peer that receives data answers within KEEPALIVE_TIMEOUT (10 s) by data or by a
keepalive, and the engine's new_handshake timer says after 15 s that it did not. Keepalives are not answered, so the ages of the
last send and receive alone could not tell silence from idleness.

Source: WireGuard paper 6.4 and 6.5.
"""

from __future__ import annotations

from ginnel.watch.snapshot import Answer, PeerView, Verdict

#: REJECT_AFTER_TIME: an older session can neither send nor receive.
SESSION_LIFE_S = 180.0


def age_text(age_s: float) -> str:
    """An age as a person says it: `4 s`, `2 min 5 s`, `3 h 7 min`, `2 d 4 h`."""
    seconds = max(0, int(age_s))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    if minutes:
        return f"{minutes} min {seconds % 60} s"
    return f"{seconds} s"


def judge_configured(*, has_key: bool, up: bool, allowed_ips: int, endpoint: str | None, endpoint_host: str) -> Verdict:
    """
    Can this peer work as it is described?

    Args:
        has_key: the interface has a private key.
        up: the interface is administratively up.
        allowed_ips: how many prefixes lead to the peer.
        endpoint: where its datagrams go, None while unknown.
        endpoint_host: the host name that the endpoint was configured by, or empty.
    """
    if not has_key:
        return Verdict("no", "the interface has no private key")
    if not up:
        return Verdict("no", "the interface is down")
    if not allowed_ips:
        return Verdict("no", "no prefix leads to this peer: AllowedIPs is empty")
    if endpoint is None:
        if endpoint_host:
            return Verdict("no", f"the endpoint {endpoint_host} has not been resolved")
        return Verdict("yes", "no endpoint: it has to speak first")
    return Verdict("yes", "key, prefixes and endpoint are in place")


def judge_alive(*, session_age_s: float | None, handshake_age_s: float | None, why_not: str) -> Verdict:
    """
    Is there a session?

    Args:
        session_age_s: age of the current session, None without one.
        handshake_age_s: age of the last completed handshake, None for never.
        why_not: the machine's sentence about what it is doing, used when there is no session.
    """
    if session_age_s is not None and session_age_s < SESSION_LIFE_S:
        return Verdict("yes", f"session is {age_text(session_age_s)} old")
    if handshake_age_s is None:
        return Verdict("no", f"no handshake yet: {why_not}" if why_not else "no handshake yet")
    ago = age_text(handshake_age_s)
    return Verdict("no", f"last handshake was {ago} ago: {why_not}" if why_not else f"last handshake was {ago} ago")


def judge_carrying(*, alive: bool, receive_age_s: float | None, send_age_s: float | None, silent_age_s: float | None) -> Verdict:
    """
    Does anything come back?

    Args:
        alive: the verdict of `judge_alive` is yes.
        receive_age_s: age of the last authenticated packet from the peer, None for never.
        send_age_s: age of the last packet to it (a keepalive too), None for never.
        silent_age_s: how long ago the engine said that data had been sent and nothing came back for 15 s; None if never.
    """
    if not alive:
        return Verdict("no", "there is no session")
    if silent_age_s is not None and (receive_age_s is None or receive_age_s >= silent_age_s):
        ago = "ever" if receive_age_s is None else f"for {age_text(receive_age_s)}"
        return Verdict("no", f"data was sent and nothing came back {ago}")
    if receive_age_s is None:
        return Verdict("unknown", "nothing came back yet" if send_age_s is not None else "nothing was sent yet")
    if send_age_s is None or receive_age_s <= send_age_s:
        return Verdict("yes", f"heard from it {age_text(receive_age_s)} ago")
    if receive_age_s < SESSION_LIFE_S:
        return Verdict("yes", f"heard from it {age_text(receive_age_s)} ago; no data waits for an answer")
    return Verdict("unknown", f"idle: heard from it {age_text(receive_age_s)} ago")


class Tally:
    """
    A tunnel's verdict on one part, from its peers': the worst of them.

    `no` and `unknown` name up to `NAMED` peers; a tunnel without peers is `unknown`.
    """

    NAMED = 3

    def __init__(self) -> None:
        self._total = 0
        self._counts: dict[Answer, int] = {"no": 0, "unknown": 0}
        self._names: dict[Answer, list[str]] = {"no": [], "unknown": []}

    def add(self, label: str, answer: Answer) -> None:
        """Count a peer that is called *label*."""
        self._total += 1
        if answer != "yes":
            self._counts[answer] += 1
            if len(self._names[answer]) < self.NAMED:
                self._names[answer].append(label)

    def verdict(self) -> Verdict:
        """Of all peers counted."""
        if not self._total:
            return Verdict("unknown", "no peers")
        for answer, count in self._counts.items():
            if count:
                more = f" and {count - self.NAMED} more" if count > self.NAMED else ""
                named = ", ".join(self._names[answer])
                return Verdict(answer, f"{self._total - count} of {self._total} peers; not {named}{more}")
        return Verdict("yes", f"{self._total} of {self._total} peers")


class Judgement:
    """The three tallies of a tunnel."""

    def __init__(self) -> None:
        self.configured, self.alive, self.carrying = Tally(), Tally(), Tally()

    def seen(self, peer: PeerView) -> PeerView:
        """Count *peer*; gives it back."""
        label = peer.name or peer.public_key[:8] + "…"
        self.configured.add(label, peer.configured.answer)
        self.alive.add(label, peer.alive.answer)
        self.carrying.add(label, peer.carrying.answer)
        return peer
