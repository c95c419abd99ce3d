"""Step 3 of 12: what tasks on hidden patches share: a transformer on patches, and a smaller one that fills in the hidden.

Comes in: tokens of the seen patches float32 [..., K * V, width], K records of one unit side by side, and order int64
[..., K * N], the numbers of each record's patches, the V seen ones first. Goes out: float32 [..., K * M, decoder width],
one token for each of the M = N - V hidden ones, in the same order. He et al., "Masked Autoencoders Are Scalable Vision
Learners" (CVPR 2022), section 3; the tokens are not put back in the record's order: each patch's position is looked up by
its number, and attention does not see the order, so the result is the same and every shape is constant.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_core.encoders.attention import Transformer, start_range
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.spec.data import Picture, SignalData

HEAD_WIDTH = 32
"""Width of a decoder's head, as in He et al. (512 in 16 heads)."""


class HiddenPatchesModel(PretextModel):
    """Encoder on patches, and a decoder of `decoder_depth` blocks that is not released for use."""

    encoder: PatchTransformer

    def __init__(
        self,
        data: Picture | SignalData,
        encoder: PatchTransformer,
        *,
        mask_fraction: float,
        decoder_width: int,
        decoder_depth: int,
    ) -> None:
        super().__init__()
        self.views = data.records_per_patient
        self.encoder = encoder
        self.squares = self.encoder.squares
        self.hidden = min(max(round(self.squares * mask_fraction), 1), self.squares - 1)
        self.bridge = nn.Linear(encoder.token_width, decoder_width)
        self.mask = nn.Embedding(1, decoder_width)
        self.places = nn.Embedding(self.squares, decoder_width)
        self.decoder = Transformer(decoder_width, decoder_depth, decoder_width // HEAD_WIDTH)

    def filled(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Tokens of seen patches [..., K * V, width] to what the decoder makes of the hidden ones [..., K * M, decoder]."""
        records, shown, width = self.views, self.squares - self.hidden, self.bridge.out_features
        lead = order.shape[:-1]
        masks = self.mask(order.new_zeros(*lead, records * self.hidden))
        parts = (self.bridge(tokens).view(*lead, records, shown, width), masks.view(*lead, records, self.hidden, width))
        decoded = self.decoder(torch.cat(parts, dim=-2).flatten(-3, -2) + self.places(order), records)
        hidden: Tensor = decoded.view(*lead, records, self.squares, width)[..., shown:, :].flatten(-3, -2)
        return hidden

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `start_range`."""
        return start_range(self, name)
