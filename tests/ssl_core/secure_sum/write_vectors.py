"""Writes tests/vectors/secure_sum/*.json from the package itself; to be run by hand when the protocol changes on purpose.

    python tests/ssl_core/secure_sum/write_vectors.py

Comes in: nothing; keys and randomness are fixed. Goes out: the same bytes on every machine (tests/shared/tests_vector_*.py).
test_vectors.py holds the package to these files, and to them the second decoder (tests/shared/tests_second_*.py), which
shares no code with it. So a change of the protocol on purpose is four steps: the package, this command, the second decoder
(for a field: its line in tests_second_wire.py, and who fills it in tests_second_site.py or tests_second_replay.py), the
documentation.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]


def main():
    sys.path[:0] = [str(TESTS / "shared"), str(TESTS.parent)]
    from tests_vector_files import FOLDER, files, text_of

    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in files().items():
        (FOLDER / name).write_text(text_of(make()) + "\n")


if __name__ == "__main__":
    main()
