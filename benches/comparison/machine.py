"""What the comparison ran on."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
"""File systems on which a sync costs nothing, and keeps nothing."""


@dataclass(frozen=True)
class Machine:
    """The machine and the file system of the scratch directory."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    file_system: str

    @staticmethod
    def here(scratch: Path) -> Machine:
        """This machine."""
        return Machine(
            cpu=cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            kernel=f"{platform.system()} {platform.release()}",
            file_system=file_system(
                scratch.resolve(), Path("/proc/mounts").read_text(encoding="utf-8")
            ),
        )

    @property
    def is_scratch_in_memory(self) -> bool:
        """Whether a sync means nothing here."""
        return self.file_system in IN_MEMORY

    def facts(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {**asdict(self), "is_scratch_in_memory": self.is_scratch_in_memory}

    def sentence(self) -> str:
        """All of it in one line."""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB, kernel {self.kernel}, "
            f"scratch on {self.file_system}"
        )


def cpu_model(cpuinfo: str) -> str:
    """Name of the processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return f"unknown processor ({platform.machine()})"


def file_system(path: Path, mounts: str) -> str:
    """Type of the file system that holds `path`, from the text of /proc/mounts."""
    found, depth = "unknown", -1
    for line in mounts.splitlines():
        _, place, kind = line.split(" ")[:3]
        mount = Path(place.replace("\\040", " "))
        # Of two at one place the later hides the earlier.
        if path.is_relative_to(mount) and len(mount.parts) >= depth:
            found, depth = kind, len(mount.parts)
    return found
