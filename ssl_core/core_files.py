"""Step 1 of 12: what a process that ends by a fault leaves: no core file, and nothing for a program that collects them.

A core file would hold records, keys and updates. A limit of 0 keeps the kernel from writing a file, yet where `core_pattern`
names a program, as most distributions set it, the whole memory is given to it all the same, and some keep it. Of a limit of one
byte, too few for any file, the kernel gives nothing to a program either (core(5); do_coredump in fs/coredump.c). Processes that
are started from this one inherit the limit.
"""

from __future__ import annotations

import resource


def leave_no_core_file() -> None:
    """For the rest of this process; where the machine's own hard limit is 0, that stays."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
