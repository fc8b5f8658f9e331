"""`GINNEL_AEAD` overrides which packet AEAD serves; a name that cannot be served is refused at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def import_with(choice: str) -> subprocess.CompletedProcess[str]:
    """A fresh process that imports `ginnel.crypto` under the choice."""
    return subprocess.run(
        [sys.executable, "-c", "import ginnel.crypto"],
        env={**os.environ, "GINNEL_AEAD": choice},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def has_avx512() -> bool:
    """Whether this CPU has what our own implementation needs."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return {"avx512f", "avx512bw", "avx512ifma"} <= set(flags)


def test_the_library_serves_everywhere() -> None:
    assert import_with("aws-lc").returncode == 0


def test_our_own_serves_where_the_cpu_can_and_is_refused_elsewhere() -> None:
    done = import_with("avx512")
    if has_avx512():
        assert done.returncode == 0, done.stderr
    else:
        assert done.stderr.splitlines()[-1] == "ImportError: GINNEL_AEAD=avx512: this CPU lacks AVX-512 F, BW or IFMA"


@pytest.mark.parametrize("choice", ["", "rot13", "AVX512", "ipsec-mb"])
def test_anything_else_is_an_import_error_that_says_what_was_expected(choice: str) -> None:
    """Nothing falls back in silence."""
    done = import_with(choice)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f'ImportError: GINNEL_AEAD: expected aws-lc or avx512, found "{choice}"'


def test_the_package_build_encrypts() -> None:
    """The bench build that does not encrypt is never what tests, or a wheel, run on."""
    from ginnel import _native

    assert _native.UNENCRYPTED is False
