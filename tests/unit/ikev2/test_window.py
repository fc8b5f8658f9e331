"""Message ids and retransmission."""

from __future__ import annotations

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2.context import Context
from ginnel.ikev2.window import MESSAGE_ID_SOFT, Judgement, Window
from ginnel.units import NS_PER_S


def window(chance: int = 0, *, first_s: float = 2, give_up_s: float = 60) -> Window:
    """Its chance is always the same: 0 (no wait is shortened) to 255 (by a tenth, nearly)."""
    context = Context(lambda size: bytes([chance]) * size, lambda _: 256, lambda _: 0, KeyMaterial.random(32), False)
    return Window(context, int(first_s * NS_PER_S), int(give_up_s * NS_PER_S))


def waits(one: Window) -> list[float]:
    """How long each wait is, in s, until it gives up."""
    now = 0
    found: list[float] = []
    due: int | None = one.sent(37, (b"request",), now)
    while due is not None:
        found.append((due - now) / NS_PER_S)
        now = due
        due = one.again(now)
    return found


def test_waits_grow_and_end() -> None:
    assert [round(one, 3) for one in waits(window())] == [2, 3.6, 6.48, 11.664, 20.995, 15.261]
    assert round(sum(waits(window())), 6) == 60


def test_each_wait_is_shortened_by_at_most_a_tenth() -> None:
    full, short = waits(window(0)), waits(window(255))
    for one, other in zip(full[:-1], short[:-1], strict=False):
        assert 0.9 * one <= other < one
    assert round(sum(short), 6) == 60


def test_ids_count_and_one_is_outstanding() -> None:
    one = window()
    for number in range(3):
        one.sent(37, (b"x",), 0)
        assert one.outstanding is not None
        assert one.outstanding.message_id == number
        one.taken()
    assert one.next_id == 3


def test_requests_of_the_peer() -> None:
    one = window()
    assert one.judge(0) is Judgement.NEW
    assert one.judge(1) is Judgement.OUTSIDE
    assert one.kept_answer(b"a") is None
    one.answer(b"a", (b"answer",))
    assert one.judge(0) is Judgement.AGAIN
    assert one.judge(1) is Judgement.NEW
    assert one.judge(2) is Judgement.OUTSIDE
    assert one.kept_answer(b"a") == (b"answer",)
    assert one.kept_answer(b"b") is None, "the same id, but not the same request"
    one.answer(b"b", ())
    assert one.judge(0) is Judgement.OUTSIDE


def test_ids_that_go_far_are_told() -> None:
    one = window()
    assert not one.spent
    one.expected = MESSAGE_ID_SOFT
    assert one.spent
