"""Which layers the fast path knows, in all settings that it takes."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests_engines import Given, with_weights
from torch import Tensor, nn

from ssl_core.errors import PrivacyError
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.layers import moments, part_of, refusal
from ssl_core.privacy.survey import survey


class Lone(Given):
    """One layer, read once; of pictures float32 [b, 2, 6, 6], or by a Conv1d of their channels and rows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        pictures = views["x"]
        found = self.layer(pictures.flatten(1, 2) if isinstance(self.layer, nn.Conv1d) else pictures)
        return (found.sin() + found).flatten(1).square().mean(dim=1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
        nn.Embedding(4, 3, max_norm=1.0),
        nn.Embedding(4, 3, scale_grad_by_freq=True),
        nn.Embedding(4, 3, sparse=True),
        nn.Bilinear(2, 2, 2),
        nn.modules.linear.NonDynamicallyQuantizableLinear(2, 2),
        nn.InstanceNorm1d(3, affine=True),
    ],
)
def test_layers_and_settings_that_are_not_known_are_named(layer: nn.Module) -> None:
    assert type(layer).__name__ in (refusal(layer) or "")


def _with(layer: nn.Module, **attributes: object) -> nn.Module:
    """The layer, its parameters deleted and given anew in this order, or as what they are given as."""
    for name in attributes:
        delattr(layer, name)
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        _with(nn.Linear(6, 4), bias=nn.Parameter(torch.zeros(4)), weight=nn.Parameter(torch.ones(4, 6))),
        _with(nn.Linear(6, 4), weight=torch.ones(4, 6)),
        _with(nn.Linear(6, 4), bias=torch.ones(4)),
        _with(nn.LayerNorm(6), bias=nn.Parameter(torch.zeros(6)), weight=nn.Parameter(torch.ones(6))),
        _with(nn.LayerNorm(6), weight=torch.ones(6)),
        _with(nn.LayerNorm(6), bias=torch.ones(6)),
    ],
    ids=[
        "Linear, bias first",
        "its weight fixed",
        "its bias fixed",
        "LayerNorm, bias first",
        "its scale fixed",
        "its shift fixed",
    ],
)
def test_a_layer_whose_parameters_are_others_than_its_rule_gives_is_refused(layer: nn.Module) -> None:
    """Otherwise rows would stand under another parameter's name."""
    assert "whose parameters are not its weight and then its bias" in (refusal(layer) or "")
    assert "whose parameters" in (survey(Lone(layer), {"x": torch.randn(4, 2, 6, 6)}) or "")
    with pytest.raises(PrivacyError, match="whose parameters"):
        BookkeepingEngine(Lone(layer))


def test_a_norm_of_numbers_that_the_model_made_shorter_goes_to_another_engine_or_is_right() -> None:
    class Shorter(Given):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(6), nn.Linear(6, 3)

        def losses(self, views: dict[str, Tensor]) -> Tensor:
            return self.layer(self.norm(views["x"].bfloat16()).float()).flatten(1).square().sum(dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = survey(with_weights(Shorter()), {"x": torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(0))})
    assert found is None or "bfloat16" in found or "loop" in found


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
        nn.Conv1d(12, 4, 3, stride=2, padding=1),
        nn.LayerNorm((6, 6)),
        nn.LayerNorm(6, bias=False),
        nn.RMSNorm((6, 6), eps=1e-3),
        nn.GroupNorm(1, 2),
        nn.Linear(6, 3, bias=False),
    ],
)
def test_each_known_layer_in_unusual_settings_gives_the_rows_of_the_loop(layer: nn.Module) -> None:
    views = {"x": torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(2))}
    assert survey(with_weights(Lone(layer)), views) is None


@pytest.mark.parametrize("shape", [(6,), (3, 6)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_norm_takes_the_forward_pass_own_moments(shape: tuple[int, ...], bias: bool) -> None:
    """They are there, and give the rows that are found without them, also far from zero."""
    generator = torch.Generator().manual_seed(0)
    given, grad = (torch.randn(8, 5, 3, 6, generator=generator) for _ in range(2))
    layer = nn.LayerNorm(shape, bias=bias)
    for offset in (0.0, 1e3):
        found = moments(layer, layer((given + offset).requires_grad_()))
        assert len(found) == 2, "torch keeps them under another name: layers.moments"
        for units in (4, 8):
            fast, slow = (part_of(layer, given + offset, grad, units, at_hand).rows() for at_hand in (found, ()))
            assert len(fast) == len(slow) == 1 + bias
            for mine, theirs in zip(fast, slow, strict=True):
                assert mine.shape == (units, *shape)
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-3 if offset else 1e-5)
    assert moments(nn.Linear(6, 6), given) == () and moments(layer, given) == ()
