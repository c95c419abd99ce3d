"""A study of this site by the first digits of its hash.

Comes in: a state folder and at least 8 hexadecimal digits, or none where the site was invited to one study alone. Goes out: the
whole plan hash. Raises `ConfigError` where no single study fits.
"""

from __future__ import annotations

from client.home import SiteHome
from ssl_core.errors import ConfigError


def find_study(site: SiteHome, start_of_hash: str) -> str:
    """The hash of the one study that begins so."""
    found = [name for name in _studies(site) if name.startswith(start_of_hash) and len(start_of_hash) >= 8]
    if len(found) != 1:
        raise ConfigError(
            "no single study of this site has such a hash",
            field="plan hash",
            value=start_of_hash,
            limit="at least 8 hexadecimal digits",
            remedy="choral site status lists them",
        )
    return found[0]


def only_study(site: SiteHome) -> str:
    """The hash of the one study that this site was invited to."""
    found = _studies(site)
    if len(found) != 1:
        raise ConfigError(
            "it is not clear for which study", field="--study", value=f"{len(found)} studies at this site", limit=1,
            remedy="give --study HASH, as in choral site status, or --plan FILE",
        )  # fmt: skip
    return found[0]


def _studies(site: SiteHome) -> list[str]:
    return sorted(path.name for path in (site.root / "studies").iterdir())
