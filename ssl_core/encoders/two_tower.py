"""Step 3 of 12: two towers for images with reports: a vision transformer that is trained, a map of words that never is.

Comes in: pairs float32 [k, pixels + words * codes] (data/pair_rows.py). Goes out: float32 [k, width], the features of the
image alone: what is fine-tuned, probed and searched never needs a report. `project` takes them to the `joint` numbers in
which the text tower puts reports.
Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021), section 2.4: two
encoders and a linear projection into one space. The image tower is that of vit.py. Different: the text tower has no parameter.
It is a random projection (Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984; signs as
in Achlioptas, "Database-friendly random projections", JCSS 2003, theorem 1.1) of the bag of words of a report: for each code a
public row of `joint` signs, drawn from a constant key, the same in all studies and on all machines; their mean over the words,
brought to length 1. Reports that share words lie near each other. So it costs no privacy, cannot collapse, and cannot
remember a report; it knows nothing of the meaning or the order of words either.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.pair_rows import parted
from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.hashed_words import mean_bag
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.spec.data import PairData
from ssl_core.spec.encoder import VitSize
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

Floats = npt.NDArray[np.float32]


def public_signs(what: str, rows: int, columns: int) -> Floats:
    """float32 [rows, columns] of 1 and -1 with equal chance, by the name of what they are for; the same on every machine."""
    key = Secret(hashlib.sha256(b"choral/public-signs\x00" + what.encode()).digest())
    bits = np.unpackbits(np.frombuffer(AesCtrStream(key).take((rows * columns + 7) // 8), np.uint8))
    signs: Floats = (2.0 * bits[: rows * columns].reshape(rows, columns) - 1.0).astype(np.float32)
    return signs


def directions(vectors: Floats) -> Floats:
    """Vectors [k, d] at length 1; one without a length stays zero."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: Floats = (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
    return scaled


class TwoTower(Encoder):
    """Vision transformer, a Linear to `joint` numbers, and the frozen map of words."""

    def __init__(self, data: PairData, *, size: VitSize, patch: int, joint: int) -> None:
        super().__init__()
        self.data, self.joint = data, joint
        self.pixels = data.shape[0]
        self.image = VisionTransformer(data.pixels, size=size, patch=patch)
        self.feature_width = self.image.feature_width
        self.project = nn.Linear(self.feature_width, joint)
        self.signs = public_signs("words", data.text.codes * data.text.buckets, joint)

    def forward(self, records: Tensor) -> Tensor:
        """Whole pairs float32 [..., pixels + words * codes], or images [..., pixels], to features [..., width]."""
        out: Tensor = self.image(records[..., : self.pixels])
        return out

    def placed(self, images: Tensor) -> Tensor:
        """Images float32 [..., pixels] to where they lie among the reports, [..., joint], of any length."""
        out: Tensor = self.project(self(images))
        return out

    def read(self, codes: npt.NDArray[np.int32]) -> Floats:
        """Codes int32 [k, words, codes] of reports to their directions float32 [k, joint]; zero where there is no word."""
        bags = mean_bag(codes, codes[:, :, 0] >= 0, self.data.text.buckets)
        return directions(bags @ self.signs)

    def embed(self, records: Records) -> Tensor:
        """Pairs float32 [k, pixels + words * codes] to float32 [k, width]."""
        pixels, _, _ = parted(np.asarray(records, np.float32), self.data)
        out: Tensor = self(torch.from_numpy(pixels).to(self.project.weight.device))
        return out
