"""Rows of bench_objectives.py on disk, and what they say: a table, paired differences over seeds in words, one figure.

Comes in: `Row`s, one an arm and seed. Goes out: a CSV that grows by one line as each row ends, so that a cut run is
continued; Markdown; a matplotlib figure. A difference is paired by seed; beside its mean stands the standard deviation over
seeds; "clear" means that Student's interval at 95 % over seeds (`paired_difference`) leaves 0 out. The floor has no seed:
its one number is taken from each seed's. Fewer than three seeds give no difference. Nothing here is corrected for the
number of comparisons.
Raises `ConfigError` for a CSV of another run's settings.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev

import matplotlib
from matplotlib.figure import Figure

from ssl_core.errors import ConfigError
from ssl_core.evaluation.label_efficiency import paired_difference

# Where no package carries real records: every table and figure says so.
MADE = {"events": " (PROCEDURAL)"}
ARMS = ("floor", "random", "none", "eps8", "eps3")
PRIVATE = ("eps8", "eps3")
TRAINED = ("none", *PRIVATE)
OTHERS = ("random", "floor")
LEAST_SEEDS = 3
"""For a difference to be shown at all: two seeds have misled before."""
SHOWN = {
    "floor": "raw floor", "random": "random encoder", "none": "no privacy", "eps8": "epsilon 8", "eps3": "epsilon 3",
}  # fmt: skip
_COLOURS = {"floor": "#111111", "random": "#8a949c", "none": "#9b2d86", "eps8": "#17917f", "eps3": "#b3541e"}
_MARKERS = {"random": "v", "none": "P", "eps8": "o", "eps3": "D"}


@dataclass(frozen=True)
class Row:
    """`scores`: by "linear_N" and "knn_N", None where the pool has fewer than N; `sigma`, `epsilon` of private arms."""

    data: str
    method: str
    arm: str
    seed: int | None
    metric: str
    steps: int
    batch: int
    draws: int
    sigma: float | None
    epsilon: float | None
    seconds: float
    scores: dict[str, float | None]

    @property
    def key(self) -> tuple[str, str, str, int | None]:
        """What makes a row one of its kind."""
        return self.data, self.method, self.arm, self.seed


_HEAD = [each.name for each in fields(Row) if each.name != "scores"]


def read_rows(path: Path, *, steps: int, draws: int, columns: Sequence[str]) -> list[Row]:
    """Rows of an earlier run, none where there is no file; `ConfigError` where steps, draws or columns differ."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        found = [_row(cells, columns) for cells in reader] if reader.fieldnames == [*_HEAD, *columns] else None
    if found is None or any((row.steps, row.draws) != (steps, draws) for row in found):
        raise ConfigError(
            "rows on disk are those of other settings", field="--csv", value=path.name, limit=f"{steps} steps, {draws} draws",
            remedy="name another file, or the same --steps, --draws and --budgets",
        )  # fmt: skip
    return found


def append_row(path: Path, row: Row) -> None:
    """Add one line; the header first where the file is new."""
    new = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*_HEAD, *row.scores], lineterminator="\n")
        if new:
            writer.writeheader()
        plain = {name: value for name, value in asdict(row).items() if name != "scores"}
        writer.writerow(plain | {name: None if value is None else f"{value:.4f}" for name, value in row.scores.items()})


def markdown(rows: Sequence[Row]) -> list[str]:
    """One line an arm of a method: mean over its seeds, standard deviation in brackets."""
    names = list(rows[0].scores)
    lines = [
        f"| | seeds | {' | '.join(name.replace('_', ' ') for name in names)} | s |",
        "|---|---" + "|---" * (len(names) + 1) + "|",
    ]
    last = ""
    for data, method, arm in _kinds(rows):
        same = [row for row in rows if (row.data, row.method, row.arm) == (data, method, arm)]
        title = f"**{data}**{MADE.get(data, '')}, {same[0].metric}" if arm == "floor" else f"{data}: {method}"
        if title != last:
            lines.append(f"| {title} |" + " |" * (len(names) + 2))
            last = title
        cells = [_cell([row.scores[name] for row in same]) for name in names]
        seeds = "-" if arm == "floor" else str(len(same))
        lines.append(f"| {SHOWN[arm]} | {seeds} | {' | '.join(cells)} | {mean(row.seconds for row in same):.0f} |")
    return lines


def differences(rows: Sequence[Row], arm: str, other: str, data: str, method: str, score: str) -> list[float]:
    """`arm` minus `other` seed by seed, for the seeds that have both; the floor stands for every seed."""
    own = {row.seed: row.scores[score] for row in rows if (row.data, row.method, row.arm) == (data, method, arm)}
    if other == "floor":
        (floor,) = [row.scores[score] for row in rows if (row.data, row.arm) == (data, "floor")]
        others = dict.fromkeys(own, floor)
    else:
        others = {row.seed: row.scores[score] for row in rows if (row.data, row.method, row.arm) == (data, method, other)}
    pairs = [(own[seed], others[seed]) for seed in own if seed in others]
    return [first - second for first, second in pairs if first is not None and second is not None]


def difference_lines(rows: Sequence[Row]) -> list[str]:
    """Markdown: mean paired difference over seeds (its standard deviation), bold where the interval leaves 0 out."""
    names = list(rows[0].scores)
    lines = [f"| minus | | seeds | {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * (len(names) + 3) + "|"]
    last = ""
    for data, method in _methods(rows):
        for other in OTHERS:
            for arm in TRAINED:
                by_score = {name: differences(rows, arm, other, data, method, name) for name in names}
                seeds = max(map(len, by_score.values()))
                if seeds < LEAST_SEEDS:
                    continue
                title = f"{data}: {method}"
                if title != last:
                    lines.append(f"| {title} |" + " |" * (len(names) + 2))
                    last = title
                cells = " | ".join(_difference(by_score[name]) for name in names)
                lines.append(f"| {SHOWN[other]} | {SHOWN[arm]} | {seeds} | {cells} |")
    return lines


def words(rows: Sequence[Row]) -> list[str]:
    """For each method: what no privacy, epsilon 8 and 3 leave over the random encoder and over the floor."""
    lines = []
    for data, method in _methods(rows):
        for other in OTHERS:
            said = [line for arm in TRAINED if (line := _sentence(rows, data, method, arm, other)) is not None]
            if said:
                lines.append(f"{data}, {method}, over the {SHOWN[other]}: {'; '.join(said)}.")
    return lines


def figure(rows: Sequence[Row], score: str, path: Path) -> None:
    """A panel for each data type: a method a line, an arm a marker for each seed, the floor a vertical line."""
    panels = list(dict.fromkeys(row.data for row in rows if row.arm != "floor"))
    if not panels:
        raise ConfigError("there is no method to draw", field="--figure", value=path.name, remedy="run it first")
    methods = {data: list(dict.fromkeys(r.method for r in rows if r.data == data and r.arm != "floor")) for data in panels}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "choral", "font.size": 9}):
        drawn = Figure(figsize=(8.4, 1.1 * len(panels) + 0.5 * sum(map(len, methods.values()))), layout="constrained")
        heights = [len(methods[data]) + 1 for data in panels]
        grid = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for axes, data in zip(grid[:, 0], panels, strict=True):
            own = [row for row in rows if row.data == data]
            for row in own:
                value = row.scores[score]
                if row.arm == "floor" and value is not None:
                    axes.axvline(value, color=_COLOURS["floor"], dashes=(6, 2), label=SHOWN["floor"])
                elif value is not None:
                    # The private arms a little below, so that equal ones do not hide each other.
                    place = methods[data].index(row.method) + 0.18 * (ARMS.index(row.arm) - 2.5)
                    axes.plot(value, place, _MARKERS[row.arm], color=_COLOURS[row.arm], label=SHOWN[row.arm], alpha=0.8)
            axes.set_yticks(range(len(methods[data])), methods[data])
            axes.set_ylim(len(methods[data]) - 0.5, -0.5)
            axes.set_title(f"{data}{MADE.get(data, '')}: {own[0].metric}, {score.replace('_', ' probe, ')} labels", loc="right")
            axes.grid(axis="x", color="#dfe5ea")
            axes.set_axisbelow(True)
        handles = {
            label: handle for axes in grid[:, 0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        drawn.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _sentence(rows: Sequence[Row], data: str, method: str, arm: str, other: str) -> str | None:
    by_score = {name: differences(rows, arm, other, data, method, name) for name in rows[0].scores}
    known = {name.replace("_", " "): sign(found) for name, found in by_score.items() if len(found) >= LEAST_SEEDS}
    if not known:
        return None
    clear = [(word, [name for name, side in known.items() if side == wanted]) for word, wanted in (("gain", 1), ("loss", -1))]
    parts = [f"clear {word} at {', '.join(names)}" for word, names in clear if names]
    if not clear[0][1]:
        parts.insert(0, "nothing is left" if arm in PRIVATE else "nothing is gained")
    return f"{SHOWN[arm]}: {', '.join(parts)}"


def sign(found: Sequence[float]) -> int:
    """1 or -1 where Student's 95 % interval of paired differences lies above or below 0; else 0."""
    interval = paired_difference(found, [0.0] * len(found))
    return int(interval.low > 0) - int(interval.high < 0)


def _difference(found: Sequence[float]) -> str:
    if len(found) < LEAST_SEEDS:
        return "-"
    text = f"{mean(found):+.3f} ({stdev(found):.3f})"
    return f"**{text}**" if sign(found) else text


def _methods(rows: Iterable[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.data, row.method) for row in rows if row.arm in TRAINED))


def _kinds(rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """Data, method, arm, each once: data as they came, its floor first, then methods as they came, arms in their order."""
    listed = list(rows)
    data = list(dict.fromkeys(row.data for row in listed))
    methods = list(dict.fromkeys((row.data, row.method) for row in listed))
    return sorted(
        {(row.data, row.method, row.arm) for row in listed},
        key=lambda kind: (data.index(kind[0]), kind[2] != "floor", methods.index(kind[:2]), ARMS.index(kind[2])),
    )


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{mean(known):.3f}" + (f" ({stdev(known):.3f})" if len(known) > 1 else "")


def _row(cells: dict[str, str], columns: Sequence[str]) -> Row:
    number = {name: float(cells[name]) if cells[name] else None for name in ("sigma", "epsilon", *columns)}
    return Row(
        data=cells["data"], method=cells["method"], arm=cells["arm"], seed=int(cells["seed"]) if cells["seed"] else None,
        metric=cells["metric"], steps=int(cells["steps"]), batch=int(cells["batch"]), draws=int(cells["draws"]),
        sigma=number["sigma"], epsilon=number["epsilon"], seconds=float(cells["seconds"]),
        scores={name: number[name] for name in columns},
    )  # fmt: skip
