"""The machine that a measurement was taken on."""

import os
import platform
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, system, and the load when it was asked.

    Returns:
      `processor`, `architecture`, `cores`, `system`, `load_average` (of the last minute; None where
      the system does not tell).
    """
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": load,
    }


def is_host(target: str) -> bool:
    """Whether a target's kind of processor is this machine's."""
    architecture = platform.machine().lower()
    kinds = {"cpu-x86": ("x86", "amd64", "i386", "i686"), "cpu-arm": ("arm", "aarch64")}
    return architecture.startswith(kinds.get(target, ("none",)))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0].strip() if names else platform.processor() or "unknown processor"
