"""What a site computes on: asked for by name, refused where it is not there, set as the engines need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ssl_core.config import SpeedSpec
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.privacy.machine import check_products, threads, training_device


@pytest.fixture
def convolutions() -> Iterator[None]:
    """What cuDNN may do, as it was before."""
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("convolutions")
def test_float32_is_float32_on_a_cuda_device_for_convolutions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.backends.cudnn.allow_tf32 = True
    assert training_device(SpeedSpec(device="cpu")) == torch.device("cpu") and torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device(SpeedSpec(device="cuda")) == torch.device("cuda") and not torch.backends.cudnn.allow_tf32
    check_products(torch.device("cpu"))  # torch can still say what its products are


@pytest.mark.usefixtures("convolutions")
def test_a_device_that_is_not_there_is_refused_and_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.backends.cudnn.allow_tf32 = True
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        training_device(SpeedSpec(device="cuda"))
    assert torch.backends.cudnn.allow_tf32


def test_threads_are_as_before_outside() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("way", ["mkldnn", "cuda"])
def test_every_way_to_less_exact_products_is_refused(way: str) -> None:
    """torch has several settings; each of them is seen."""
    where = torch.backends.mkldnn.matmul if way == "mkldnn" else torch.backends.cuda.matmul
    before = where.fp32_precision
    where.fp32_precision = "tf32"
    try:
        with pytest.raises(PrivacyError, match="less exact than float32"):
            check_products(torch.device("cpu"))
    finally:
        where.fp32_precision = before
    check_products(torch.device("cpu"))
