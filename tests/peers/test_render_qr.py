"""QR codes, read back by somebody else's decoder: the picture, and what a terminal shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ginnel.network.render import qr, renderer
from peers.rendered_world import NO_UDP, described, secrets

PHONE = described(NO_UDP)["phone"]
_LIGHT = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}


def decoded(path: Path) -> str:
    """What zbar reads in a picture."""
    done = subprocess.run(["zbarimg", "--raw", "--quiet", "--nodbus", "-Sbinary", str(path)], capture_output=True, check=True)
    return done.stdout.decode()


def test_the_picture_says_the_file(tmp_path: Path) -> None:
    (file,) = renderer("png").files(PHONE, secrets(PHONE))
    path = tmp_path / file.name
    path.write_bytes(file.content)
    said = decoded(path)
    assert said == qr.text(PHONE, secrets(PHONE))
    conf = tmp_path / "wg0.conf"
    conf.write_text(said)
    conf.chmod(0o600)
    stripped = subprocess.run(["wg-quick", "strip", str(conf)], capture_output=True, text=True, check=True).stdout
    assert f"PrivateKey = {secrets(PHONE).private_key}" in stripped
    assert "AllowedIPs = 0.0.0.0/0, ::/0" in stripped


def test_the_terminal_shows_the_same(tmp_path: Path) -> None:
    (file,) = renderer("qr").files(PHONE, secrets(PHONE))
    lines = file.text.splitlines()
    assert len({len(line) for line in lines}) == 1
    rows = [[_LIGHT[char][half] for char in line] for line in lines for half in (0, 1)]
    scale = 4
    pixels = bytes(255 if light else 0 for row in rows for _ in range(scale) for light in row for _ in range(scale))
    path = tmp_path / "terminal.pgm"
    path.write_bytes(b"P5 %d %d 255\n" % (len(rows[0]) * scale, len(rows) * scale) + pixels)
    assert decoded(path) == qr.text(PHONE, secrets(PHONE))
