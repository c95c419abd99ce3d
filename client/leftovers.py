"""What studies leave behind that no round will read any more, and its deletion.

Comes in: a site's state folder, after a start or after a roster was accepted. Goes out: which studies a roster ended.
"""

from __future__ import annotations

from client.home import SiteHome
from client.study import Study
from ssl_core.errors import StateError, TrustError


def drop_leftovers(home: SiteHome) -> list[str]:
    """Delete what no round will read: of a killed approval, and of a study that gave its encoder or that a roster ended.

    Returns "NAME (first digits of the hash)" of each approved study that had a copy and was ended.
    """
    ended: list[str] = []
    for folder in sorted((home.root / "keys").glob("*/")):
        study = Study(home, folder.name)
        study.kept_records.drop_drafts()
        if not study.leftovers:
            continue
        # Inside a transaction, since an approval gives its copy the name before it is recorded.
        with home.chain.transaction():
            over = _ended(study)
            if not study.approved() or over is not None or study.finished:
                study.forget()
            if study.approved() and over is not None:
                ended.append(f"{over} ({folder.name[:12]})")
    return ended


def _ended(study: Study) -> str | None:
    """Its name, if an accepted roster ended it. A plan file that is gone or damaged is for a person to look at."""
    try:
        over = study.outlived()
    except (TrustError, StateError):
        return None
    return None if over is None else over[0]
