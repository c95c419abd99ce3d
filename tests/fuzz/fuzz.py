"""`make fuzz`: one target under atheris for as long as is wanted, guided by coverage of ssl_core.

    python tests/fuzz/fuzz.py TARGET [--seconds 600]

TARGET is codec, site, coordinator, parcel or trust. The corpus grows in build/fuzz/TARGET; an input that breaks a target's
property stands beside it as TARGET-crash-*: copy it to tests/fuzz/corpus/TARGET, where CI runs it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
WORK = ROOT / "build" / "fuzz"
TARGETS = ("codec", "coordinator", "parcel", "site", "trust")


def main(arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process, with a code other than 0 when it found something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    given = parser.parse_args(arguments)
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is not installed: pip install 'choral[fuzz]', or pip install -e '.[fuzz]' here") from None
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "shared"), str(Path(__file__).parent)]
    with atheris.instrument_imports(include=["ssl_core"]):
        target = importlib.import_module(f"fuzz_{given.target}")
    grown = WORK / given.target
    grown.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (grown / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    folders = [str(grown), *(str(path) for path in [CORPUS / given.target] if path.exists())]
    flags = ["-rss_limit_mb=2048", "-timeout=30", "-max_len=65536", f"-artifact_prefix={WORK / given.target}-"]
    flags += [f"-max_total_time={given.seconds}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, *folders], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
