"""A folder named from where a person stands is the same folder for what is started from it, which runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.home import SiteHome
from server.home import OperatorHome


def test_a_relative_home_is_made_absolute(make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make_federation(3)
    monkeypatch.chdir(federation.root)
    operator = federation.operator.root.relative_to(federation.root)
    assert OperatorHome(operator).root == federation.root / operator
    assert SiteHome(Path("site-a")).root == federation.root / "site-a"
