"""The QR code of `qr` as a picture, eight pixels a module: for a screen, or to be printed."""

from __future__ import annotations

import io

from ginnel.network.compile import NodeDescription
from ginnel.network.render import NONE, File, Secrets, qr

_PIXELS = 8


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """One picture."""
    out = io.BytesIO()
    qr.code(description, secrets).save(out, kind="png", scale=_PIXELS, border=qr.QUIET)
    return (File(f"{description.interface}.png", out.getvalue(), "", secret=True),)
