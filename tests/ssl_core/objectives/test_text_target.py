"""Text target: the loss by plain numpy, and a bank that is nobody's report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def test_the_loss_is_the_papers_with_public_directions_in_place_of_other_patients(target_task: Any) -> None:
    model = target_task.model
    views = target_task.views(target_task.patients, np.arange(len(target_task.patients)))
    found = model.losses(views).detach().numpy()
    with torch.no_grad():
        placed = model.encoder.placed(views["shown"]).double().numpy()
    looking = placed / np.linalg.norm(placed, axis=-1, keepdims=True)
    for unit, loss in enumerate(found):
        total = 0.0
        for view in range(model.views):
            scores = np.concatenate([views["target"][unit, view : view + 1].numpy(), model.bank]) @ looking[unit, view] / 0.2
            total += float(views["weight"][unit, view]) * (np.log(np.exp(scores).sum()) - scores[0])
        np.testing.assert_allclose(loss, total, rtol=1e-4, atol=1e-5)


def test_without_a_bank_it_is_the_cosine(cosine_task: Any) -> None:
    model = cosine_task.model
    assert model.bank.shape == (0, 16)
    views = cosine_task.views(cosine_task.patients, np.arange(6))
    with torch.no_grad():
        placed = model.encoder.placed(views["shown"])
        cosine = torch.nn.functional.cosine_similarity(placed, views["target"], dim=-1)
        expected = (views["weight"] * (1 - cosine)).sum(dim=-1)
    torch.testing.assert_close(model.losses(views), expected, rtol=1e-4, atol=1e-5)


def test_the_bank_is_a_public_constant_of_no_plan_and_no_patient(target_task: Any) -> None:
    bank = target_task.model.bank
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1.0, rtol=1e-6)
    assert not any(parameter.shape == bank.shape for parameter in target_task.model.parameters())
    assert {name for name, _ in target_task.model.named_parameters() if not name.startswith("encoder.")} == set()
