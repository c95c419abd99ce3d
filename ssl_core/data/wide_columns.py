"""Step 1 of 12: do the columns that a source gathers its rows from fit those of the study? For values that lie one by one.

Comes in: what a source declares of numeric columns (name -> unit) and of columns of levels (name -> levels), each under the key
of the source file that it stands under, and the plan's table. Raises `DataError`, by key and column, where a column is missing
or one too many, a unit is another, or a level is none of the study's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ssl_core.errors import DataError
from ssl_core.spec.data import TableData


def check_wide_columns(
    data: TableData,
    *,
    numbers: tuple[str, Mapping[str, str | None]],
    levels: tuple[str, Mapping[str, Iterable[str]]],
) -> None:
    """Both as (key of the source file, what it declares by column); see the module docstring."""
    units = {column.name: column.unit for column in data.numeric}
    known = {column.name: column.levels for column in data.categorical}
    (number_key, number_units), (level_key, level_names) = numbers, levels
    for key, given, asked in ((number_key, number_units.keys(), units.keys()), (level_key, level_names.keys(), known.keys())):
        for name in sorted(given ^ asked):
            what = "the source declares a column that the study does not have" if name in given else "a column is not declared"
            raise DataError(what, field=f"{key}.{name}", remedy="declare the columns of the study, each once, and no other")
    for name, unit in number_units.items():
        if unit != units[name]:
            raise DataError(
                f"column {name!r} is in another unit than the study asks for", field=f"{number_key}.{name}.unit",
                value=unit or "none declared", limit=units[name] or "none",
            )  # fmt: skip
    for name, declared in level_names.items():
        for level in declared:
            if level not in known[name]:
                raise DataError(
                    "the source declares a level that the study does not have", field=f"{level_key}.{name}", value=level,
                    limit=", ".join(known[name][:20]),
                )  # fmt: skip
