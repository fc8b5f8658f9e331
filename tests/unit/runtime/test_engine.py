"""The engine's face: the real tunnel has all that the protocol asks, and a build that does not encrypt is refused."""

from __future__ import annotations

import pytest

from ginnel import _native, engine
from ginnel.errors import EngineError


def test_the_real_tunnel_has_everything_that_the_protocol_names() -> None:
    wanted = {name for name in vars(engine.TunnelLike) if not name.startswith("_")}
    assert wanted - set(dir(_native.Tunnel)) == set()
    assert "send_handshake" in wanted


def test_a_build_that_does_not_encrypt_is_refused_unless_the_bench_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "UNENCRYPTED", True)
    for environment in ({}, {"GINNEL_BENCH_UNENCRYPTED": "0"}, {"GINNEL_BENCH_UNENCRYPTED": ""}):
        with pytest.raises(EngineError, match="does not encrypt"):
            engine.open_engine(environment)
    engine.open_engine({"GINNEL_BENCH_UNENCRYPTED": "1"}).close()


def test_this_build_encrypts() -> None:
    assert _native.UNENCRYPTED is False
    engine.open_engine({}).close()
