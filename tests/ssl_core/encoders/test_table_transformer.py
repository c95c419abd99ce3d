"""The table transformer: sizes of the authors' code, missing values, features against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests_transformer import named_weights, randomise, transformer

from ssl_core.encoders.table_transformer import SHAPES, TableTransformer
from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData

TABLE = TableData(
    kind="table",
    numeric=tuple(NumericColumn(name=f"n{n}", typical=1.0) for n in range(3)),
    categorical=(CategoricalColumn(name="a", levels=("x", "y")), CategoricalColumn(name="b", levels=("z",))),
)


def rows(count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(2)
    codes = np.column_stack([rng.integers(0, n, count) for n in TABLE.codes])
    return np.hstack([rng.normal(size=(count, 3)) * codes[:, :3], codes]).astype(np.float32)


def tokens(named: dict[str, np.ndarray], row: np.ndarray) -> np.ndarray:
    """Tokens of one row: a column at a time, before the blocks."""
    table, out, first = named["table.weight"], [], 0
    for column, count in enumerate(TABLE.codes):
        token = table[first + int(row[3 + column])].copy()
        if column < 3:
            token += row[column] * named["scales.weight"][column]
        out.append(token)
        first += count + 1
    return np.stack(out)


def test_features_are_the_mean_over_the_columns() -> None:
    model = randomise(TableTransformer(TABLE, size="nano"))
    out = model.features(rows(), chunk=5)
    assert out.dtype == np.float32 and out.shape == (12, model.feature_width) == (12, 32)
    named = named_weights(model)
    for row, found in zip(rows().astype(np.float64), out, strict=True):
        expected = transformer(named, "trunk", tokens(named, row), depth=2, heads=2).mean(axis=0)
        np.testing.assert_allclose(found, expected, atol=5e-5)


def test_a_number_enters_as_in_the_paper_linear_in_its_value_and_missing_is_not_zero() -> None:
    model = randomise(TableTransformer(TABLE, size="nano"))
    model.trunk = torch.nn.Identity()
    model.trunk.forward = lambda tokens, records: tokens
    row = np.zeros((4, 8), np.float32)
    row[:3, 0], row[:3, 3] = (0, 1, 2), 1
    first = model.tokens(*model.known(torch.from_numpy(row)))[:, 0]
    torch.testing.assert_close(first[2] - first[1], first[1] - first[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first[1] - first[0], model.scales.weight[0], rtol=1e-5, atol=1e-6)
    assert (first[3] - first[0]).norm() > 0.1


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_widths_blocks_and_heads_are_those_of_the_authors_code(size: str) -> None:
    """`make_default` of the published package: 96 at one block, 192 at three, always 8 heads."""
    width = {"tiny": 96, "small": 192}[size]
    assert SHAPES[size] == (width, {"tiny": 1, "small": 3}[size], 8)  # type: ignore[index]
    model = TableTransformer(TABLE, size=size)  # type: ignore[arg-type]
    block = 12 * width * width + 13 * width
    columns = sum(count + 1 for count in TABLE.codes) + 3
    assert sum(p.numel() for p in model.parameters()) == columns * width + SHAPES[size].depth * block + 2 * width  # type: ignore[index]


def test_what_no_reader_gives_is_missing() -> None:
    model = randomise(TableTransformer(TABLE, size="nano"))
    good = rows()
    good[:, 3:6], good[:, 6:] = 1, 2
    for place, value in [(0, np.nan), (0, np.inf), (0, 2e6), (3, 1.5), (3, 2), (3, -1), (3, np.nan), (6, 1e30), (7, 3)]:
        bad, absent = good.copy(), good.copy()
        bad[:, place] = value
        column = place if place < 3 else place - 3
        absent[:, 3 + column] = 0
        if column < 3:
            absent[:, column] = 0
        np.testing.assert_array_equal(model.features(bad), model.features(absent))
        assert np.abs(model.features(absent) - model.features(good)).max() > 1e-3
    nothing = np.full((1, 8), np.nan, np.float32)
    np.testing.assert_array_equal(model.features(nothing), model.features(np.zeros((1, 8), np.float32)))


def test_no_record_is_fine_and_embed_gives_gradients() -> None:
    model = randomise(TableTransformer(TABLE, size="nano"))
    assert model.features(rows()[:0]).shape == (0, 32)
    model.embed(rows())[:, 0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    levels = TableTransformer(TABLE.model_copy(update={"numeric": ()}), size="nano")
    assert levels.features(rows()[:, 6:]).shape == (12, 32)
