"""`GINNEL_AEAD` overrides which packet AEAD serves; a name that cannot be served is refused at import."""

from __future__ import annotations

import os
import subprocess
import sys

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


@pytest.mark.parametrize("choice", ["aws-lc", "avx512"])
def test_what_this_machine_can_do_is_accepted(choice: str) -> None:
    """Both; a machine without AVX-512 IFMA cannot run these tests, as it cannot compare the two."""
    done = import_with(choice)
    assert done.returncode == 0, done.stderr


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
