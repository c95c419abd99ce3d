"""The transformer block against plain numpy: records side by side, tokens that are ignored, any leading dimensions."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from tests_transformer import named_weights, randomise, transformer
from torch import nn

from ssl_core.encoders.attention import HIDE, Transformer, start_range

TOKENS = torch.randn(2, 3 * 5, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> Transformer:
    made: Transformer = randomise(Transformer(12, 2, 3))
    return made


def test_it_agrees_with_numpy_record_by_record(model: Transformer) -> None:
    named = {f"m.{name}": value for name, value in named_weights(model).items()}
    out = model(TOKENS, 3).detach().numpy().reshape(2, 3, 5, 12)
    for unit in range(2):
        for record in range(3):
            alone = TOKENS[unit].reshape(3, 5, 12)[record].double().numpy()
            np.testing.assert_allclose(out[unit, record], transformer(named, "m", alone, depth=2, heads=3), atol=2e-5)


def test_a_leading_dimension_is_any_number_of_single_passes(model: Transformer) -> None:
    together = model(TOKENS, 3)
    for unit in range(2):
        torch.testing.assert_close(model(TOKENS[unit], 3), together[unit], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(TOKENS[None], 3)[0], together, rtol=1e-5, atol=1e-6)
    assert model(TOKENS[:0], 3).shape == (0, 15, 12)


def test_ignored_tokens_are_as_if_they_were_not_there(model: Transformer) -> None:
    """Bit by bit, whatever stands in them, and with no gradient."""
    bias = torch.zeros(2, 15)
    bias[:, 9:] = HIDE
    tokens = TOKENS.clone().requires_grad_(True)
    out = model(tokens, 1, bias)[:, :9]
    (gradient,) = torch.autograd.grad(out.square().sum(), tokens)
    assert gradient[:, :9].any() and not gradient[:, 9:].any()
    other = torch.cat([TOKENS[:, :9], 50 * TOKENS[:, 9:]], dim=1)
    assert torch.equal(model(other, 1, bias)[:, :9], out)
    torch.testing.assert_close(model(TOKENS[:, :9]), out, rtol=1e-4, atol=1e-5)


def test_a_record_of_ignored_tokens_alone_is_finite(model: Transformer) -> None:
    assert torch.isfinite(model(TOKENS, 1, torch.full((2, 15), HIDE))).all()
    assert math.exp(HIDE) == 0 and torch.tensor(HIDE).to(torch.bfloat16).exp() == 0


def test_tokens_of_another_record_or_unit_have_no_gradient(model: Transformer) -> None:
    tokens = TOKENS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(tokens, 3)[0, 5:10].square().sum(), tokens)
    assert gradient[0, 5:10].any()
    assert not gradient[1].any() and not gradient[0, :5].any() and not gradient[0, 10:].any()


def test_causal_attention_agrees_with_numpy_and_sees_no_later_token() -> None:
    model = randomise(Transformer(12, 2, 3, causal=True))
    named = {f"m.{name}": value for name, value in named_weights(model).items()}
    tokens = TOKENS.clone().requires_grad_(True)
    out = model(tokens, 3)
    for unit in range(2):
        for record in range(3):
            alone = TOKENS[unit].reshape(3, 5, 12)[record].double().numpy()
            expected = transformer(named, "m", alone, depth=2, heads=3, causal=True)
            found = out[unit].reshape(3, 5, 12)[record].detach().numpy()
            np.testing.assert_allclose(found, expected, atol=2e-5)
    (gradient,) = torch.autograd.grad(out[0, 7].square().sum(), tokens)
    assert gradient[0, 5:8].any(dim=1).all() and not gradient[0, 8:].any() and not gradient[0, :5].any()


def test_causal_attention_with_ignored_tokens_is_finite_and_the_same_before_them() -> None:
    model = randomise(Transformer(12, 2, 3, causal=True))
    bias = torch.zeros(2, 15)
    bias[:, 9:] = HIDE
    assert torch.equal(model(TOKENS, 1, bias)[:, :9], model(TOKENS, 1)[:, :9])
    assert torch.isfinite(model(TOKENS, 1, torch.full((2, 15), HIDE))).all()


def test_start_ranges_go_by_the_kind_of_layer() -> None:
    model = nn.ModuleDict({"t": Transformer(12, 1, 3), "e": nn.Embedding(4, 12)})
    assert start_range(model, "e.weight") == (0.0, 0.02 * math.sqrt(3))
    assert start_range(model, "t.blocks.0.attention.qkv.weight") == (0.0, math.sqrt(6 / 48))
    assert start_range(model, "t.blocks.0.widen.weight") == (0.0, math.sqrt(6 / 60))
    rest = [name for name, _ in model.named_parameters() if not re.search(r"(e|qkv|proj|widen|narrow)\.weight$", name)]
    assert {name.rpartition(".")[2]: start_range(model, name) for name in rest} == {"weight": (1.0, 0.0), "bias": (0.0, 0.0)}
