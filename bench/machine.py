"""What a figure was measured on: without it, the figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.returncode == 0 else "missing"


def facts() -> dict[str, str | int]:
    """Processor, kernel, tools and how busy the machine was when the run began."""
    return {
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count() or 0,
        "memory": _first("/proc/meminfo", "MemTotal"),
        "virtualised": _said("systemd-detect-virt") if Path("/usr/bin/systemd-detect-virt").exists() else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": _said("rustc", "--version"),
        "go": _said("go", "version"),
        "iperf3": _said("iperf3", "--version"),
        "load_average_before": f"{os.getloadavg()[0]:.2f}",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
