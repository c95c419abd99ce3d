"""What does not go together is refused with a reason and with tasks or encoders that do go there."""

from __future__ import annotations

import itertools
import re

import pytest

from ssl_core.spec.fit import TOGETHER
from ssl_core.spec.nearest import nearest, not_together

DATA, ENCODERS, TASKS = (sorted({kinds[place] for kinds in TOGETHER}) for place in range(3))


@pytest.mark.parametrize(("data", "encoder"), list(itertools.product(DATA, ENCODERS)))
def test_every_refusal_names_what_fits_in_its_place(data: str, encoder: str) -> None:
    for task in TASKS:
        kinds = (data, encoder, task)
        if kinds in TOGETHER:
            continue
        line = not_together(kinds, TOGETHER)
        words = set(re.findall(r"[\w-]+", re.split(r"take|nearest here", line)[-1]))
        fitting = {kinds for kinds in TOGETHER if kinds[0] == data and {kinds[1], kinds[2]} & words}
        assert fitting, line
        reads = any((d, e) == (data, encoder) for d, e, _ in TOGETHER)
        assert reads == ("does not read" not in line)
        assert len(nearest(kinds, TOGETHER)) >= reads


def test_the_nearest_put_the_same_question() -> None:
    assert nearest(("text", "text-transformer", "masked-autoencoding"), TOGETHER)[0] == "masked-language"
    assert nearest(("signal", "conv1d", "rotation"), TOGETHER)[0] == "shuffled-order"
    assert nearest(("sound", "vit", "simsiam"), TOGETHER)[0] == "latent-prediction"
    assert not_together(("signal", "conv1d", "rotation"), TOGETHER) == (
        "rotation needs a picture, which has a way up; nearest here: shuffled-order or contrastive-predictive or simsiam"
    )
    assert not_together(("image", "vit", "rotation"), TOGETHER) == (
        "rotation of image data is built for the encoder resnet: take that, or with vit masked-autoencoding or denoising or "
        "latent-prediction"
    )
    assert not_together(("text", "vit", "rotation"), TOGETHER) == (
        "the encoder vit does not read text data: take hashed-words or text-transformer"
    )
