from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from client.journal import SiteJournal
from ssl_core.chain import Chain, write_durably
from ssl_core.secure_sum.journal import Record
from ssl_core.secure_sum.memory import MemoryStore

KINDS = ["EPOCH", "STARTED", "UPLOADED", "ANSWERED", "CLOSED", "VOID"]
ROUNDS = st.integers(0, 12)
BODIES = st.binary(max_size=40)
STEPS = st.one_of(
    st.tuples(st.just("secrets"), BODIES),
    st.tuples(st.just("append"), ROUNDS, st.sampled_from(KINDS), BODIES),
    st.tuples(st.just("vector"), ROUNDS, st.lists(st.integers(0, 2**32 - 1), max_size=4), st.sampled_from(["u4", "u2"])),
    st.tuples(st.just("parts"), ROUNDS, BODIES),
    st.tuples(st.just("drop"), ROUNDS),
    st.tuples(st.just("restart")),
    st.tuples(st.just("other study"), ROUNDS, BODIES),
)


def same(journal: SiteJournal, memory: MemoryStore) -> None:
    assert journal.read_secrets() == memory.read_secrets()
    for kind in KINDS:
        assert journal.latest(kind) == memory.latest(kind)
    for number in range(13):
        assert list(journal.records(number)) == list(memory.records(number))
        left, right = journal.read_vector(number), memory.read_vector(number)
        assert journal.read_parts(number) == memory.read_parts(number)
        assert (left is None) == (right is None)
        if left is not None and right is not None:
            assert left.dtype == right.dtype and np.array_equal(left, right)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=10))
def test_it_behaves_as_the_store_in_memory_restarts_included(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as parent:
        root = Path(parent)
        chain = Chain(root / "chain.db", create=True)
        journal, memory = SiteJournal(chain, root / "one", "aa"), MemoryStore()
        for name, *values in steps:
            match name:
                case "secrets":
                    journal.write_secrets(*values)
                    memory.write_secrets(*values)
                case "append":
                    journal.append(Record(*values))
                    memory.append(Record(*values))
                case "vector":
                    vector = np.array(values[1], np.uint32).astype(values[2])
                    journal.write_vector(values[0], vector)
                    memory.write_vector(values[0], vector)
                case "parts":
                    journal.write_parts(*values)
                    memory.write_parts(*values)
                case "drop":
                    journal.drop_vectors(*values)
                    memory.drop_vectors(*values)
                case "restart":
                    chain.close()
                    chain = Chain(root / "chain.db")
                    journal = SiteJournal(chain, root / "one", "aa")
                case "other study":
                    other = SiteJournal(chain, root / "two", "bb")
                    other.append(Record(values[0], "STARTED", values[1]))
                    other.write_secrets(values[1])
                    other.write_vector(values[0], np.zeros(2, np.uint32))
                    other.write_parts(values[0], values[1])
                    other.drop_vectors(13)
        same(journal, memory)
        chain.close()


def test_nobody_else_can_read_it_and_backups_are_told_to_skip_it(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "chain.db", create=True)
    folder = tmp_path / "keys"
    journal = SiteJournal(chain, folder, "aa")
    journal.write_secrets(b"secret")
    journal.write_vector(1, np.arange(3, dtype=np.uint32))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"CACHEDIR.TAG", "secrets.bin", "vector-1.u32"}
    for path in (tmp_path / "chain.db", *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert (folder / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    assert "secret" not in repr(journal)
    chain.close()


def test_keys_that_a_kill_left_in_a_temporary_file_are_erased_at_the_next_start(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "chain.db", create=True)
    folder = tmp_path / "keys"
    journal = SiteJournal(chain, folder, "aa")
    journal.write_secrets(b"now")
    write_durably(folder / ".secrets.bin.99999", b"chain keys of a round that is over")
    write_durably(folder / ".vector-3.u32.99999", b"")
    assert SiteJournal(chain, folder, "aa").read_secrets() == b"now"
    assert {path.name for path in folder.iterdir()} == {"CACHEDIR.TAG", "secrets.bin"}
    chain.close()
