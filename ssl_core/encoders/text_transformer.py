"""Step 3 of 12: the text transformer: words in their order -> tokens -> blocks -> mean of the words' tokens.

Comes in: codes int32 [k, words, codes], -1 where there is no word. Goes out: float32 [k, width]. Blocks as in
attention.py (LayerNorm first: Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020, section
3.1); sizes as in Turc et al., "Well-Read Students Learn Better" (2019), table 1a, `nano` is ours, for tests.
Different from BERT (Devlin et al., NAACL 2019, section 3): a word enters as the sum of the embeddings of its public hash
codes (Svenstrup et al., "Hash Embeddings", NeurIPS 2017, section 3, fixed code weights), so no vocabulary is fitted; no
class token, features are the mean over words; words beyond the end of a record are ignored as keys and in the mean. With
`causal`, for next-token, a word sees itself and those before it, in pretraining and in features alike (Radford et al.,
"Improving Language Understanding by Generative Pre-Training", 2018, section 3.1); a plan's task decides, not its encoder.

`table` holds, one below the other, for each code its `buckets` rows and one more for a word that is hidden: the mask
token is the sum of those last rows. A word enters as its row numbers: code c at c * (buckets + 1) + code.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.encoders.attention import HIDE, Transformer
from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.vit import Shape
from ssl_core.spec.data import TextData
from ssl_core.spec.encoder import TextTransformerSize

SHAPES: dict[TextTransformerSize, Shape] = {
    "nano": Shape(32, 2, 2),
    "tiny": Shape(128, 2, 2),
    "mini": Shape(256, 4, 4),
    "small": Shape(512, 4, 8),
}


def table_rows(codes: npt.NDArray[np.int32], hidden: npt.NDArray[np.bool_], buckets: int) -> npt.NDArray[np.int64]:
    """Codes int32 [k, T, codes] to row numbers int64 [k, T * codes]; `hidden` bool [k, T] and absent words: the mask rows."""
    shown = np.where(hidden[:, :, None] | (codes < 0), buckets, codes.astype(np.int64))
    return (shown + np.arange(codes.shape[2]) * (buckets + 1)).reshape(len(codes), codes.shape[1] * codes.shape[2])


class TextTransformer(Encoder):
    """At most `data.words` words of a record."""

    def __init__(self, data: TextData, *, size: TextTransformerSize, causal: bool = False) -> None:
        super().__init__()
        self.codes, self.buckets = data.codes, data.buckets
        self._build(data.codes * (data.buckets + 1), data.words, size, causal)

    def _build(self, rows: int, words: int, size: TextTransformerSize, causal: bool) -> None:
        shape = SHAPES[size]
        self.feature_width = shape.width
        self.table = nn.Embedding(rows, shape.width)
        self.places = nn.Embedding(words, shape.width)
        self.trunk = Transformer(*shape, causal=causal)

    def tokens(self, rows: Tensor, places: Tensor, real: Tensor, records: int = 1) -> Tensor:
        """Words of `records` records side by side, T in all, to tokens [..., T, width].

        rows: int64 [..., T * codes], of `table`; places: int64 [..., T], of the words in their record; real: float32
        [..., T], 1 for a word and 0 for none. The words of a record may come in any order, if not `causal`.
        """
        words = self.table(rows).unflatten(-2, (real.shape[-1], self.codes)).sum(dim=-2)
        out: Tensor = self.trunk(words + self.places(places), records, (1.0 - real) * HIDE)
        return out

    def forward(self, rows: Tensor) -> Tensor:
        """Whole records, int64 [..., words * codes] as `prepare` gives them, to features float32 [..., width]."""
        real = (rows[..., :: self.codes] != self.buckets).to(self.table.weight.dtype)
        places = torch.arange(real.shape[-1], device=rows.device).expand(real.shape)
        summed = (self.tokens(rows, places, real) * real.unsqueeze(-1)).sum(dim=-2)
        return summed / real.sum(dim=-1, keepdim=True).clamp(min=1.0)

    def prepare(self, records: Records) -> Tensor:
        """Codes int32 [k, words, codes] to row numbers int64 [k, words * codes], nothing hidden."""
        codes = np.asarray(records, np.int32)
        return torch.from_numpy(table_rows(codes, np.zeros(codes.shape[:2], np.bool_), self.buckets))

    def embed(self, records: Records) -> Tensor:
        """Codes int32 [k, words, codes] to float32 [k, width]."""
        out: Tensor = self(self.prepare(records).to(self.table.weight.device))
        return out
