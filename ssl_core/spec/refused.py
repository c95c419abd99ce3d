"""Before step 1: pretext tasks that people ask for by name and that no plan may have, each with the reason and what to take.

All of them compute one patient's loss from other patients' records. Then clipping each patient's gradient bounds nothing: one
patient changes the gradients of all others of his batch, so the sum may change by (2 n - 1) C for n patients, and the
epsilon that is reported is not true; and a queue carries a patient into steps in which he was not drawn at all. On public or
made-up records such losses are legal, since there is nobody to protect; a study's objective is trained on patients.
Not of them is simclr-buckets: it clips the gradient of a bucket of patients, and its noise is for what one of them can change.
"""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """Why a task is refused, in one line, and the names of the nearest that are not."""

    reason: str
    instead: tuple[str, ...]


_LOOKS = ("own-contrast", "crops-contrast", "vicreg-own")

REFUSED: dict[str, Refused] = {
    "simclr": Refused(
        "its negatives are the other patients of the batch, so each patient's gradient depends on theirs",
        ("simclr-buckets", "simclr-bank", *_LOOKS),
    ),
    "moco": Refused(
        "its queue keeps patients' features and shows them to others, even in steps for which they were not drawn",
        ("moco-bank", *_LOOKS),
    ),
    "vicreg": Refused("its variances and covariances are over the patients of a batch", ("vicreg-own",)),
    "barlow-twins": Refused("its cross-correlations are over the patients of a batch", ("barlow-own", "vicreg-own")),
    "swav": Refused(
        "its assignment balances clusters over the patients of a batch, so each patient's target depends on the others",
        ("swav-bank", *_LOOKS),
    ),
    "dino": Refused(
        "the centre of its targets is a mean over the batch, so each patient's gradient depends on the others",
        ("dino-bank", "latent-prediction", "masked-autoencoding"),
    ),
    "clip": Refused(
        "its negatives are the images and texts of the other patients of the batch",
        ("caption", "text-target"),
    ),
}
