"""How code runs on this machine: compiled loops and their cache on disk, free cores, installed versions.

In: functions in plain Python, the environment. Out: functions compiled by Numba, thread counts, versions;
random numbers that follow from what they are for (`splitmix`).
May import: only the files at the root of `behavior`.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.runtime.cores import free_cores, thread_count, usable_cores
    from behavior.runtime.versions import installed_version
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "free_cores": "cores",
            "installed_version": "versions",
            "thread_count": "cores",
            "usable_cores": "cores",
        },
    )

__all__ = ["free_cores", "installed_version", "thread_count", "usable_cores"]
