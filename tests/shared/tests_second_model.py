"""Second decoder: the global model that a published sum gives, and the digests that CLOSE and ACK sign.

Weights are float32, moments and all arithmetic Python's floats, one coordinate after another.
"""

from __future__ import annotations

import hashlib
import math
import struct

from tests_second_ring import narrow


class Model:
    """Weights and moments; `how` is the plan's rule: optimizer, learning_rate, momentum, betas, epsilon."""

    def __init__(self, how, weights, first=(), second=()):
        self.how, self.weights, self.first, self.second = how, list(weights), list(first), list(second)

    def after(self, mean):
        """The model one server step on."""
        rate, size = self.how["learning_rate"], len(mean)
        first, second = self.first or [0.0] * size, self.second or [0.0] * size
        if self.how["optimizer"] == "fedavg":
            first, second, steps = [], [], [rate * value for value in mean]
        elif self.how["optimizer"] == "fedavgm":
            first = [old * self.how["momentum"] + value for old, value in zip(first, mean, strict=True)]
            second, steps = [], [rate * value for value in first]
        else:
            one, other = self.how["betas"]
            first = [old * one + value * (1.0 - one) for old, value in zip(first, mean, strict=True)]
            second = [old * other + value * value * (1.0 - other) for old, value in zip(second, mean, strict=True)]
            epsilon = self.how["epsilon"]
            steps = [rate * m / (math.sqrt(v) + epsilon) for m, v in zip(first, second, strict=True)]
        weights = [narrow(weight + step) for weight, step in zip(self.weights, steps, strict=True)]
        return Model(self.how, weights, first, second)

    @property
    def digest(self):
        """SHA-256 of the weights, float32 little endian."""
        return hashlib.sha256(struct.pack(f"<{len(self.weights)}f", *self.weights)).digest()

    @property
    def state(self):
        """SHA-256 of choral/server-state, then each moment, float64 little endian, behind its bytes' number in eight bytes."""
        moments = [struct.pack(f"<{len(moment)}d", *moment) for moment in (self.first, self.second)]
        return hashlib.sha256(b"choral/server-state" + b"".join(struct.pack(">Q", len(one)) + one for one in moments)).digest()

    @property
    def values(self):
        """What stands beside a CHECKPOINT: weights and moments in one row."""
        return [*self.weights, *self.first, *self.second]
