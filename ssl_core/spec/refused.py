"""Before step 1: pretext tasks that people ask for by name and that no plan may have, each with the reason and what to take.

All of them compute one patient's loss from other patients' records. Then clipping each patient's gradient bounds nothing: one
patient changes the gradients of all others of his batch, so the sum may change by (2 n - 1) C for n patients, and the
epsilon that is reported is not true; and a queue carries a patient into steps in which he was not drawn at all. On public or
made-up records such losses are legal, since there is nobody to protect; a study's objective is trained on patients.
Not of them is simclr-buckets: it clips the gradient of a bucket of patients, and its noise is for what one of them can change.
What is named in place of a task is held against the plan's data and encoder before a person reads it (asked.py).
"""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """Why a task is refused, in one line, and the names of the nearest that are not."""

    reason: str
    instead: tuple[str, ...]


_LOOKS = ("own-contrast", "crops-contrast", "vicreg-own")
_CONTRAST = ("simclr-buckets", "simclr-bank", *_LOOKS)
_MASKED = ("masked-features", "denoising", "masked-autoencoding", "masked-image")

REFUSED: dict[str, Refused] = {
    "simclr": Refused(
        "its negatives are the other patients of the batch, so each patient's gradient depends on theirs", _CONTRAST
    ),
    "moco": Refused(
        "its queue keeps patients' features and shows them to others, even in steps for which they were not drawn",
        ("moco-bank", *_LOOKS),
    ),
    # Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers" (ICCV 2021), section 3: no queue.
    "moco-v3": Refused("its negatives are the keys of the other patients of the batch", ("moco-bank", *_CONTRAST)),
    # Dwibedi et al., "With a Little Help from My Friends" (ICCV 2021), section 3.2.
    "nnclr": Refused(
        "its positives are looked up in a queue of other patients' features, and its negatives are the batch's",
        ("moco-bank", *_CONTRAST),
    ),
    # Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018), section 3.1.
    "instance-discrimination": Refused("its memory bank keeps the features of all patients", ("moco-bank", *_CONTRAST)),
    # Khosla et al., "Supervised Contrastive Learning" (NeurIPS 2020), equation 2.
    "supcon": Refused("its positives and negatives are the other patients of the batch, parted by labels", _CONTRAST),
    "vicreg": Refused("its variances and covariances are over the patients of a batch", ("vicreg-own",)),
    "barlow-twins": Refused("its cross-correlations are over the patients of a batch", ("barlow-own", "vicreg-own")),
    # Ermolov et al., "Whitening for Self-Supervised Representation Learning" (ICML 2021), section 3.
    "w-mse": Refused("it whitens features over the patients of a batch", ("vicreg-own", "barlow-own")),
    "swav": Refused(
        "its assignment balances clusters over the patients of a batch, so each patient's target depends on the others",
        ("swav-bank", *_LOOKS),
    ),
    # Caron et al., "Deep Clustering for Unsupervised Learning of Visual Features" (ECCV 2018), section 3.2.
    "deepcluster": Refused("its targets are clusters of all patients' features", ("swav-bank", *_LOOKS)),
    "dino": Refused(
        "the centre of its targets is a mean over the batch, so each patient's gradient depends on the others",
        ("dino-bank", "latent-prediction", "masked-autoencoding"),
    ),
    # Zhou et al., "iBOT" (ICLR 2022), section 3.
    "ibot": Refused(
        "the centres of its targets are means over the batch, of records and of patches",
        ("dino-bank", "latent-prediction", "masked-autoencoding"),
    ),
    # Oquab et al., "DINOv2" (TMLR 2024), section 4.
    "dinov2": Refused(
        "its targets are shared out over the batch by Sinkhorn-Knopp, and KoLeo spreads the features of the batch",
        ("dino-bank", "latent-prediction", "masked-autoencoding"),
    ),
    # Sablayrolles et al., "Spreading Vectors for Similarity Search" (ICLR 2019), section 3.3.
    "koleo": Refused("it pushes each patient's features away from the nearest of the batch", ("vicreg-own", "barlow-own")),
    "clip": Refused("its negatives are the images and texts of the other patients of the batch", ("caption", "text-target")),
    # Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023), section 3.2.
    "siglip": Refused("its negatives are the images and texts of the other patients of the batch", ("caption", "text-target")),
    # Bahri et al., "SCARF" (ICLR 2022), section 3.
    "scarf": Refused(
        "it fills a row's columns with values of other patients, and its negatives are the other rows of the batch", _MASKED
    ),
    # Yoon et al., "VIME" (NeurIPS 2020), section 4.1.
    "vime": Refused("it fills a row's hidden columns with values of other patients", _MASKED),
    # Somepalli et al., "SAINT" (2021), sections 3.2 and 4.
    "saint": Refused("its attention runs between the rows of a batch, and its negatives are these rows", _MASKED),
    # Zhang et al., "mixup" (ICLR 2018), section 2.
    "mixup": Refused("it mixes the records of two patients, so that one loss holds both", _MASKED),
}

ALIASES = {
    "barlow": "barlow-twins",
    "moco-v1": "moco",
    "moco-v2": "moco",
    "simclr-v2": "simclr",
    "nt-xent": "simclr",
    "npid": "instance-discrimination",
    "mae": "masked-autoencoding",
    "mlm": "masked-language",
    "cpc": "contrastive-predictive",
    "i-jepa": "latent-prediction",
    "rotnet": "rotation",
}
"""Other names of one and the same task, refused or not; spellings alone are none (`canonical`)."""


def canonical(asked: str, known: set[str]) -> str | None:
    """The name in REFUSED or in `known` that `asked` means, however it is written: case, hyphens, underscores; or None."""
    names = {plain(name): name for name in (*known, *REFUSED)} | {plain(name): name for name in ALIASES}
    name = names.get(plain(asked))
    return None if name is None else ALIASES.get(name, name)


def plain(name: str) -> str:
    """Without case, hyphens, underscores and spaces."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
