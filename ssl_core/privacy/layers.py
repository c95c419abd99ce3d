"""Step 4 of 12, fast path: the layers whose per-unit gradients follow from their input and output gradient alone.

Comes in: a module, its input and the gradient of its output, both with leading dimension k b: b units, each with k
consecutive rows (k views of a unit, say). Goes out: a `Part`, of its parameters in their order.
Either may be bfloat16, each by itself: products keep it so (kept.py); everything else is computed in float32 of the same
numbers. Each rule is exact algebra on what was kept: for Linear, Conv (as a product with the unfolded input) and Embedding the
row is a sum of outer products over tokens or places; for LayerNorm, RMSNorm and GroupNorm the rows of scale and shift
are sums of g * normed input and of g, the normed input computed again from the input, by a LayerNorm's own `moments` where
those are at hand.
`refusal` says why a module is not one of these, a function of its type and settings alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.privacy.kept import Lookups, Part, Products, Rows

Moments = tuple[Tensor, ...]


def refusal(module: nn.Module) -> str | None:
    """None for a module that `part_of` knows; else why not. Subclasses are others' code and are not known."""
    if type(module) not in _RULES:
        return f"{type(module).__name__} is none of {', '.join(sorted(kind.__name__ for kind in _RULES))}"
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
            return f"{type(module).__name__} with groups, named padding or padding other than zeros"
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq or module.sparse):
        return "Embedding with max_norm, scale_grad_by_freq or sparse"
    if [name for name, _ in module.named_parameters(recurse=False)] != _read_by(module):
        return f"{type(module).__name__} whose parameters are not its weight and then its bias"
    return None


def _read_by(module: nn.Module) -> list[str]:
    """What it computes with besides its input, parameter or not."""
    return [name for name in ("weight", "bias") if getattr(module, name, None) is not None]


def moments(module: nn.Module, output: Tensor) -> Moments:
    """Mean and 1 / standard deviation float32 [k b, ..., 1] that a LayerNorm's call in float32 found, where they are at hand.

    torch keeps them for its own backward pass, under names that it may change; without them they are found anew.
    """
    if not isinstance(module, nn.LayerNorm):
        return ()
    found = [getattr(output.grad_fn, name, None) for name in ("_saved_result1", "_saved_result2")]
    last = len(module.normalized_shape)
    kind = (torch.float32, (*output.shape[:-last], *[1] * last))
    kept = tuple(one for one in found if isinstance(one, Tensor) and (one.dtype, tuple(one.shape)) == kind)
    return kept if len(kept) == len(found) else ()


def part_of(module: nn.Module, given: Tensor, grad: Tensor, units: int, found: Moments = ()) -> Part:
    """Input [k b, ...] and output gradient [k b, ...] of one call to the part of the module's parameters."""
    if isinstance(module, nn.LayerNorm) and found:
        return _layer_norm(module, given, grad, units, *found)
    part: Part = _RULES[type(module)](module, given, grad, units)
    return part


def least_dims(module: nn.Module) -> int:
    """How many dimensions an input has when it has a leading one: fewer means one record without it."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return 3 if isinstance(module, nn.Conv1d) else 4
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return 1 + len(module.normalized_shape)
    return 1 if isinstance(module, nn.Embedding) else 2


def _linear(module: nn.Linear, given: Tensor, grad: Tensor, units: int) -> Part:
    inputs, grads = (part.reshape(units, -1, part.shape[-1]) for part in (given, grad))
    return Products(inputs, grads, module.weight.shape, module.bias is not None).cheapest()


def _conv(module: nn.Conv1d | nn.Conv2d, given: Tensor, grad: Tensor, units: int) -> Part:
    padding = tuple(int(pad) for pad in module.padding)
    settings = zip(("kernel_size", "dilation", "stride"), (module.kernel_size, module.dilation, module.stride), strict=True)
    square = {name: (1, *value) if len(value) == 1 else value for name, value in settings}
    if given.dim() == 3:
        given, padding = given[:, :, None, :], (0, *padding)

    def unfold(some: Tensor) -> Tensor:
        places = functional.unfold(some.flatten(0, 1), padding=padding, **square).transpose(1, 2)
        return places.reshape(len(some), -1, places.shape[2])

    inputs = given.reshape(units, -1, *given.shape[1:])
    grads = grad.flatten(2).transpose(1, 2).reshape(units, -1, grad.shape[1])
    return Products(inputs, grads, module.weight.shape, module.bias is not None, unfold).cheapest()


def _embedding(module: nn.Embedding, given: Tensor, grad: Tensor, units: int) -> Part:
    index, grads = given.reshape(units, -1).long(), grad.float().reshape(units, -1, grad.shape[-1])
    if module.padding_idx is not None:
        grads = torch.where((index == module.padding_idx)[:, :, None], 0.0, grads)
    return Lookups(index, grads, module.num_embeddings).cheapest()


def _last_norm(module: nn.LayerNorm | nn.RMSNorm, given: Tensor, grad: Tensor, units: int) -> Part:
    shape, given, grad = list(module.normalized_shape), given.float(), grad.float()
    if isinstance(module, nn.LayerNorm):
        normed = functional.layer_norm(given, shape, eps=module.eps)
    else:
        normed = functional.rms_norm(given, shape, eps=module.eps)
    return _scale_and_shift(module, *(part.reshape(units, -1, *shape).sum(dim=1) for part in (normed * grad, grad)))


def _layer_norm(module: nn.LayerNorm, given: Tensor, grad: Tensor, units: int, mean: Tensor, scale: Tensor) -> Part:
    """As `_last_norm`, with fewer passes over memory; mean and 1 / standard deviation are those of the forward pass."""
    shape = module.normalized_shape
    given, grad = given.float(), grad.float()
    products = (given - mean).mul_(grad).reshape(units, -1, math.prod(shape))
    by = scale.reshape(units, 1, -1)
    sums = torch.bmm(by, products), torch.bmm(torch.ones_like(by), grad.reshape(products.shape))
    return _scale_and_shift(module, *(part.reshape(units, *shape) for part in sums))


def _group_norm(module: nn.GroupNorm, given: Tensor, grad: Tensor, units: int) -> Part:
    given, grad = given.float(), grad.float()
    normed = functional.group_norm(given, module.num_groups, eps=module.eps)
    # A GroupNorm may see [k b, C] without places; one place is then added.
    shape = (units, -1, given.shape[1], given[0, 0].numel())
    return _scale_and_shift(module, *(part.reshape(shape).sum(dim=(1, 3)) for part in (normed * grad, grad)))


def _scale_and_shift(module: nn.Module, *rows: Tensor) -> Part:
    """Without its shift where the module has none."""
    return Rows(rows[: sum(1 for _ in module.parameters(recurse=False))])


_RULES: dict[type[nn.Module], Callable[..., Part]] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Embedding: _embedding,
    nn.LayerNorm: _last_norm,
    nn.RMSNorm: _last_norm,
    nn.GroupNorm: _group_norm,
}
