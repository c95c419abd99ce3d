"""Before step 1: how many parameters each encoder has, by size, for the help of the commands that take a plan.

Written down, since a help text must not load torch; a test builds each and counts. `nano` sizes are for tests.
"""

from __future__ import annotations

MEASURED_ON = (
    "Encoders and their parameters (images of 64 x 64 in patches of 8, one-channel signals of 3000 samples in pieces of 50, "
    "texts of 64 words, tables of 30 numbers, 100 kinds of events)"
)
PARAMETERS: dict[str, dict[str, int]] = {
    "hashed-words": {"": 65_664},
    "mlp-image": {"": 1_082_240},
    "vit": {"micro": 158_336, "tiny": 5_363_520, "small": 21_343_872, "base": 85_155_072},
    "resnet": {"10": 1_225_824, "18": 11_170_240},
    "signal-transformer": {"micro": 157_184, "tiny": 5_360_064, "small": 21_336_960, "base": 85_141_248},
    "conv1d": {"small": 72_352, "base": 288_064},
    "text-transformer": {"tiny": 536_320, "mini": 3_438_592, "small": 13_168_640},
    "event-transformer": {"tiny": 418_560, "mini": 3_203_072, "small": 12_697_600},
    "table-transformer": {"tiny": 123_552, "small": 1_358_016},
    "two-tower": {"micro": 162_496, "tiny": 5_375_872, "small": 21_368_512, "base": 85_204_288},
}


def lines() -> list[str]:
    """One line an encoder: its name, and sizes with counts."""
    return [
        f"{name}: " + ", ".join(f"{size} ({count:,})" if size else f"{count:,}" for size, count in sizes.items())
        for name, sizes in PARAMETERS.items()
    ]


def epilog() -> str:
    """The lines for the end of a help text, which keeps paragraphs apart and joins lines."""
    return "\n\n".join([MEASURED_ON + ":", *lines()])
