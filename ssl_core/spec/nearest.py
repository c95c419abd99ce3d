"""Before step 1: why a pretext task does not fit a plan's data and encoder, and the nearest that do.

Comes in: kind of data, name of encoder, name of task, and what goes together (fit.py). Goes out: one line. Tasks that couple
patients are refused before, by name (refused.py); here all are correct, and one has nothing to work on.
"""

from __future__ import annotations

from collections.abc import Collection

Kinds = tuple[str, str, str]

# By the question that they put: who cannot have one of these is best served by another of the same row.
_FAMILIES = (
    ("masked-autoencoding", "masked-image", "denoising", "latent-prediction", "masked-language", "masked-words",
     "masked-features", "next-event"),
    ("next-token", "next-event", "contrastive-predictive", "masked-language", "latent-prediction", "masked-autoencoding"),
    ("rotation", "jigsaw", "shuffled-order"),
    ("simsiam", "byol", "vicreg-own", "barlow-own", "crops-contrast", "own-contrast", "simclr-buckets", "simclr-bank",
     "moco-bank", "swav-bank", "dino-bank", "latent-prediction"),
    ("caption", "text-target"),
)  # fmt: skip
_LOOKS = "augmented looks at an image or a signal, which are known to keep its meaning"
_NEEDS = {
    "rotation": "a picture, which has a way up",
    "jigsaw": "a picture, whose tiles have places",
    "shuffled-order": "a signal or a text, whose parts have an order",
    "own-contrast": "a signal, of which two parts can be told from two others",
    "contrastive-predictive": "a signal read piece by piece in time",
    "masked-image": "an image as a whole",
    "masked-autoencoding": "pieces of a picture or signal that can be hidden from a transformer",
    "latent-prediction": "pieces of a picture or signal that can be hidden from a transformer",
    "denoising": "numbers of a picture or signal to add noise to, and an output for each of them",
    "masked-language": "words in their order",
    "next-token": "words in their order",
    "masked-words": "a bag of words",
    "masked-features": "columns of a table",
    "next-event": "events with their times",
    "caption": "an image with its report",
    "text-target": "an image with its report",
    **dict.fromkeys(
        ("simsiam", "byol", "vicreg-own", "barlow-own", "crops-contrast", "simclr-buckets", "simclr-bank", "moco-bank",
         "swav-bank", "dino-bank"),
        _LOOKS,
    ),
}  # fmt: skip


def not_together(kinds: Kinds, together: Collection[Kinds]) -> str:
    """Why `kinds`, which are not in `together`, are refused, and what to take."""
    data, encoder, task = kinds
    readers = sorted({e for d, e, _ in together if d == data})
    if encoder not in readers:
        return f"the encoder {encoder} does not read {data} data: take {_or(readers)}"
    others = sorted({e for d, e, t in together if (d, t) == (data, task)})
    found = _or(nearest(kinds, together))
    if others:
        return f"{task} of {data} data is built for the encoder {_or(others)}: take that, or with {encoder} {found}"
    return f"{task} needs {_NEEDS[task]}; nearest here: {found}"


def nearest(kinds: Kinds, together: Collection[Kinds], most: int = 3) -> list[str]:
    """At most `most` tasks of the same data and encoder, those of the same question first, in the order of _FAMILIES."""
    data, encoder, task = kinds
    fitting = {t for d, e, t in together if (d, e) == (data, encoder)}
    kin = [name for family in _FAMILIES if task in family for name in family]
    order = dict.fromkeys([*kin, *(name for family in _FAMILIES for name in family)])
    return [name for name in order if name in fitting][:most]


def _or(names: list[str]) -> str:
    return " or ".join(names)
