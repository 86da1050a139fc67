"""What memory a process may still take: of the machine, within the limits of its containers, and of a GPU.

The limits are those of Linux control groups, of both versions (https://docs.kernel.org/admin-guide/cgroup-v2.html and
cgroup-v1/memory.html): a group's and those of all groups above it. Pages of files that the kernel can drop count as
free, as they do in ``MemAvailable``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from onehull.train.telemetry import gpu_names

_PAGE = re.compile(r"page size of (\d+) bytes")


def free_bytes(device: str = "host", root: Path = Path("/")) -> int | None:
    """Memory that this process can still take; None where the system does not say.

    Args:
        device: ``host``, or a GPU as ``GPU:0``.
        root: where ``proc`` and ``sys`` are.
    """
    if device != "host":
        return _free_of_gpu(device)
    if sys.platform == "darwin":
        return _free_on_macos()
    found = [free for free in (_available(root), *_free_in_groups(root)) if free is not None]
    return max(0, min(found)) if found else None


def resident_bytes(root: Path = Path("/")) -> int:
    """Memory that this process holds now; 0 where the system does not say."""
    status = _read(root / "proc/self/statm")
    if status is not None:
        return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    kilobytes = _output("ps", "-o", "rss=", "-p", str(os.getpid()))
    return int(kilobytes) * 1024 if kilobytes else 0


def _available(root: Path) -> int | None:
    kilobytes = _entry(root / "proc/meminfo", "MemAvailable:")
    return None if kilobytes is None else kilobytes * 1024


def _free_in_groups(root: Path) -> Iterator[int]:
    """What is left in each control group that this process is in and that has a limit."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            mount, limit, usage, dropped = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            usage, dropped = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        # A container may see its own group as the root: then the path of the host leads nowhere, and the mount counts.
        own = root / mount / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(root / mount):
                most, used = _read(group / limit), _read(group / usage)
                if most is not None and used is not None and most.strip() != "max":
                    yield int(most) - int(used) + (_entry(group / "memory.stat", dropped) or 0)


def _free_of_gpu(device: str) -> int | None:
    """What TensorFlow may allocate on a GPU beyond what it has."""
    import tensorflow as tf
    from tensorflow.python.client import device_lib  # the one place that says how much TensorFlow takes of a GPU

    limits = {d.name.removeprefix("/device:"): d.memory_limit for d in device_lib.list_local_devices()}
    if device not in gpu_names() or device not in limits:
        return None
    return int(limits[device]) - int(tf.config.experimental.get_memory_info(device)["current"])


def _free_on_macos() -> int | None:
    """Free pages, and those that are given up when they are wanted."""
    text = _output("vm_stat")
    page = _PAGE.search(text or "")
    if text is None or page is None:
        return None
    kinds = "free", "inactive", "speculative", "purgeable"
    pages = [re.search(rf"Pages {kind}:\s+(\d+)", text) for kind in kinds]
    return int(page[1]) * sum(int(found[1]) for found in pages if found)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return None


def _entry(path: Path, name: str) -> int | None:
    """The number behind a name at the beginning of a line."""
    for line in (_read(path) or "").splitlines():
        key, *values = line.split()
        if key == name and values:
            return int(values[0])
    return None


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
