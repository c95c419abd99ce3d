"""The secure sum's upload step and the server's unmasking: seconds, bytes and memory, beside raw AES and flwr's SecAgg+.

    python tests/bench/bench_secure_sum.py [--quick] [--worst] [--json FILE] [--sites 10 50] [--parameters 1000000]

Prints a table; asserts nothing. What is compared ran in turn, each repetition beginning with another step; shown are
medians of times and of the repetitions' ratios; "CPU" is the ratio in processor time, which a busy machine disturbs less.
vector: ours is quantise (at 16 bits: rotate first), all masks, SHA-256 of the words; flwr's is the body of its
`_collect_masked_vectors` from `quantize` to bytes ready, in its own functions with its workflow's default parameters.
step: ours is `make_upload` as a site calls it, the vector with pair keys, Shamir shares, shares for the backup, seals and
signature; flwr's is its vector and its Shamir shares of two secrets, without its key agreement and seals.
of AES: raw AES-256-CTR over the vector's buffer against our masks, generated and added, on one thread in processor time.
server a site: what the coordinator keeps of one upload beside the running sum, the sealed backups on its shelf on disk.
Memory: peak of what numpy and Python allocate in a step, plus the input, in vectors of 4 P bytes.
server: all self masks; and one third lost, all their pair masks to remove (`--worst`: at any size, minutes).
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import create_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes
from rich.console import Console
from rich.table import Table

from deploy.demo import machine_line
from server.shelf import FileShelf
from ssl_core.secure_sum import masks
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.messages import Parts, Start, Upload
from ssl_core.secure_sum.params import Member, SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.shelf import put_on
from ssl_core.secure_sum.statements import sign, start_context
from ssl_core.secure_sum.threads import default_threads
from ssl_core.secure_sum.upload import make_upload
from ssl_core.secure_sum.vault import Vault
from ssl_core.secure_sum.vector import mask_update
from ssl_core.trust.identity import Identity, Secret

HEAVIEST = 31  # Largest sum of weights that the 16-bit ring bears: more sites are refused there.
_WORK = 2 * 10**10
_CHUNK = bytes(1 << 18)


@dataclass(frozen=True)
class Site:
    """One uploading site of `count`, with chain keys drawn at random."""

    params: SumParams
    identity: Identity
    vault: Vault
    started: Started
    place: int

    @classmethod
    def of(cls, count: int, dimension: int, bits: int) -> Site:
        """The middle one of `count` sites of weight 1."""
        identities = [Identity.generate() for _ in range(count)]
        server = Identity.generate()
        params = SumParams(
            session=os.urandom(32),
            roster=os.urandom(32),
            members=tuple(
                Member(name=f"site-{at:04d}", identity=identity.public, weight=1) for at, identity in enumerate(identities)
            ),
            corrupt=(count - 1) // 3,
            server=server.public,
            dimension=dimension,
            update_range=6.0,
            min_sites=3,
            max_rounds=9,
            bits=bits,
        )
        vault = Vault(MemoryStore(), params.hash)
        vault.put_chains(1, os.urandom(32), {peer: Secret(os.urandom(32)) for peer in range(count)})
        everyone = tuple(range(count))
        start = Start(round=1, participants=everyone, model=bytes(32), keyset=bytes(32), previous=bytes(32), close=b"")
        context = start_context(params, start)
        started = Started(context=context, participants=everyone, model=bytes(32), request=sign(server, context, start))
        return cls(params, identities[count // 2], vault, started, count // 2)

    def upload(self, update: npt.NDArray[np.float32]) -> tuple[bytes, Words]:
        """The whole step."""
        return make_upload(self.params, self.place, self.identity, self.vault, self.started, update, os.urandom)

    def vector(self, update: npt.NDArray[np.float32]) -> tuple[Words, bytes]:
        """The words and their hash, with as many masks as sites."""
        add, subtract = keys(self.place + 1), keys(len(self.params.members) - self.place - 1)
        secret = Secret(os.urandom(32))
        return mask_update(self.params, self.started.context, self.place, update, secret, add=add, subtract=subtract)


@dataclass(frozen=True)
class Theirs:
    """flwr's SecAgg+ with the defaults of its workflow."""

    clipping_range: float
    quantization_range: int
    modulus_range: int

    @classmethod
    def default(cls) -> Theirs:
        """As flwr's signature says."""
        known = inspect.signature(SecAggPlusWorkflow.__init__).parameters
        return cls(*(known[name].default for name in ("clipping_range", "quantization_range", "modulus_range")))

    def upload(self, update: npt.NDArray[np.float32], count: int) -> list[bytes]:
        """Bytes of the masked vector of one site among `count`; seeds of 32 random bytes."""
        whole = quantize([update], self.clipping_range, self.quantization_range)
        vector = factor_combine(self.quantization_range, whole)
        shapes = [array.shape for array in vector]
        vector = parameters_addition(vector, pseudo_rand_gen(os.urandom(32), self.modulus_range, shapes))
        for peer in range(count - 1):
            change = parameters_addition if peer < count // 2 else parameters_subtraction
            vector = change(vector, pseudo_rand_gen(os.urandom(32), self.modulus_range, shapes))
        return [ndarray_to_bytes(array) for array in parameters_mod(vector, self.modulus_range)]

    def share(self, count: int, threshold: int) -> None:
        """Shares of the mask seed and of a private key, as its stage 1 makes them."""
        create_shares(os.urandom(32), threshold, count)
        create_shares(private_key_to_bytes(generate_key_pairs()[0]), threshold, count)


def raw_aes(buffer: npt.NDArray[np.uint8], times: int) -> None:
    """AES-256-CTR over the whole buffer, with nothing else; the zeros that it encrypts stay in the cache, as ours do."""
    for _ in range(times):
        encryptor = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        for begin in range(0, len(buffer), len(_CHUNK)):
            part = buffer[begin : begin + len(_CHUNK)].data
            encryptor.update_into(memoryview(_CHUNK)[: len(part)], part)


class Times:
    """Wall and processor seconds of repeated steps, by name."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def take(self, name: str, step: Callable[[], object]) -> float:
        """Run a step once more; its wall seconds."""
        begin, busy = time.perf_counter(), time.process_time()
        step()
        found = time.perf_counter() - begin
        self.wall.setdefault(name, []).append(found)
        self.cpu.setdefault(name, []).append(time.process_time() - busy)
        return found


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the repetitions' ratios."""
    return median(a / b for a, b in zip(above, below, strict=True))


def peak(step: Callable[[], object]) -> int:
    """Bytes that one call held at most beyond what was there before."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def kept_of(site: Site, body: bytes) -> int:
    """Bytes that the server holds in memory of one upload, as `SecureSumCoordinator.add_upload` keeps it."""
    with TemporaryDirectory() as folder:
        tracemalloc.start()
        try:
            header = decode(Upload, body).header
            dealt = put_on(FileShelf(Path(folder)), site.place, decode(Parts, decode(Upload, body).parts))
            gc.collect()
            assert header and dealt
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()


def keys(count: int) -> list[Secret]:
    """Fresh stream keys."""
    return [Secret(os.urandom(32)) for _ in range(count)]


def measure(count: int, dimension: int, bits: int, *, repeat: int, worst: bool) -> dict[str, object]:
    """One row."""
    update = np.random.default_rng(0).standard_normal(dimension, dtype=np.float32)
    site, theirs, times = Site.of(count, dimension, bits), Theirs.default(), Times()
    words, ten = np.zeros(dimension, site.params.word), keys(10)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("flwr", lambda: theirs.upload(update, count)),
        ("vector", lambda: site.vector(update)),
        ("flwr shares", lambda: theirs.share(count, site.params.thresholds(count).shares)),
        ("step", lambda: site.upload(update)),
        ("aes", lambda: raw_aes(words.view(np.uint8), len(ten))),
        ("masks", lambda: masks.apply(words, add=ten[:5], subtract=ten[5:], threads=1)),
    ]
    for at in range(repeat):
        for name, step in steps[at % len(steps) :] + steps[: at % len(steps)]:
            times.take(name, step)
    theirs_step = [a + b for a, b in zip(times.wall["flwr"], times.wall["flwr shares"], strict=True)]
    theirs_busy = [a + b for a, b in zip(times.cpu["flwr"], times.cpu["flwr shares"], strict=True)]
    body, vector = site.upload(update)
    pairs = (count // 3) * (count - count // 3)
    total = np.zeros(dimension, site.params.word)
    own = keys(count - count // 3)
    lost = worst or pairs * dimension <= _WORK
    return {
        "bits": bits,
        "sites": count,
        "parameters": dimension,
        "vector_s": median(times.wall["vector"]),
        "flwr_vector_s": median(times.wall["flwr"]),
        "vector_ratio": ratio(times.wall["flwr"], times.wall["vector"]),
        "vector_cpu_ratio": ratio(times.cpu["flwr"], times.cpu["vector"]),
        "step_s": median(times.wall["step"]),
        "flwr_step_s": median(theirs_step),
        "step_ratio": ratio(theirs_step, times.wall["step"]),
        "step_cpu_ratio": ratio(theirs_busy, times.cpu["step"]),
        "step_over_flwr_vector_cpu_ratio": ratio(times.cpu["flwr"], times.cpu["step"]),
        "share_of_raw_aes": ratio(times.cpu["aes"], times.cpu["masks"]),
        "bytes": len(body) + vector.nbytes,
        "vector_bytes": vector.nbytes,
        "flwr_bytes": sum(map(len, theirs.upload(update, 1))),
        "memory_vectors": (update.nbytes + peak(lambda: site.upload(update))) / update.nbytes,
        "server_self_masks_s": times.take("self", lambda: masks.apply(total, add=[], subtract=keys(count))),
        "server_worst_masks": len(own) + pairs,
        "server_worst_s": times.take("lost", lambda: masks.apply(total, add=keys(pairs), subtract=own)) if lost else None,
        "server_bytes_per_site": kept_of(site, body),
        "server_memory_vectors": (total.nbytes + peak(lambda: masks.apply(total, add=ten, subtract=own))) / update.nbytes,
    }


def show(rows: Sequence[dict[str, object]], console: Console) -> None:
    """Print the table."""
    theirs = Theirs.default()
    shown = Table(title=f"Secure sum, vectors of P float32; {machine_line()}; {default_threads()} threads")
    for name in (
        "bits", "n", "P", "vector", "flwr", "ratio", "CPU", "step", "flwr", "ratio", "CPU",
        "of AES", "bytes", "of flwr's", "memory", "server: self", "one third lost", "a site",
    ):  # fmt: skip
        shown.add_column(name, justify="right")
    for row in rows:
        value = {name: float(found) for name, found in row.items() if isinstance(found, int | float)}
        shown.add_row(
            f"{row['bits']}",
            f"{row['sites']}",
            f"{value['parameters'] / 1e6:g}M",
            f"{value['vector_s']:.3g} s",
            f"{value['flwr_vector_s']:.3g} s",
            f"{value['vector_ratio']:.1f}x",
            f"{value['vector_cpu_ratio']:.1f}x",
            f"{value['step_s']:.3g} s",
            f"{value['flwr_step_s']:.3g} s",
            f"{value['step_ratio']:.1f}x",
            f"{value['step_cpu_ratio']:.1f}x",
            f"{value['share_of_raw_aes']:.0%}",
            f"{value['bytes'] / 1e6:.1f} MB",
            f"{value['bytes'] / value['flwr_bytes']:.2f}",
            f"{value['memory_vectors']:.2f}",
            f"{value['server_self_masks_s']:.3g} s",
            "not run" if row["server_worst_s"] is None else f"{value['server_worst_s']:.3g} s",
            f"{value['server_bytes_per_site'] / 1e6:.2f} MB",
        )
    console.print(shown)
    console.print(
        f"flwr {version('flwr')}: quantize, factor_combine, pseudo_rand_gen, parameters_addition, parameters_subtraction, "
        f"parameters_mod, ndarray_to_bytes, create_shares; {theirs}. "
        f"16 bits: weights add up to at most {HEAVIEST}, more sites are refused. "
        f"numpy {version('numpy')}, cryptography {version('cryptography')}.",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all rows, print them, and write them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sites", type=int, nargs="+", default=[10, HEAVIEST, 50, 200])
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000_000, 22_000_000])
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of what is compared")
    parser.add_argument("--worst", action="store_true", help="one third lost at every size: minutes at 200 sites and 22M")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only that it runs")
    parser.add_argument("--json", type=Path, help="also write machine and rows here")
    given = parser.parse_args(arguments)
    sites, sizes, repeat = ([4], [5000], 1) if given.quick else (given.sites, given.parameters, given.repeat)
    console, rows = Console(width=190), []
    for dimension in sizes:
        for bits in (32, 16):
            for count in sites:
                if bits == 32 or count <= HEAVIEST:
                    rows.append(measure(count, dimension, bits, repeat=repeat, worst=given.worst))
                    console.print(f"{bits} bits, {count} sites, {dimension} parameters: done", highlight=False)
    show(rows, console)
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": f"{machine_line()}; {default_threads()} threads", "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
