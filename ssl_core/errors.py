"""The one error tree; every message names what is wrong and, where they exist, field, value, limit and remedy.

    ChoralError
    ├── ConfigError      a file or an argument that a person wrote
    ├── PolicyError      a study asks for more than this hospital allows
    ├── DataError        records that cannot be read or do not fit their declaration
    ├── PrivacyError     a guarantee that would not hold
    │   └── BudgetError  a study would pass the site's epsilon limit
    ├── TrustError       a signature, roster, key or certificate that does not verify
    ├── ProtocolError    a message that the secure sum must refuse
    │   ├── RoundVoid    a round that can give no sum any more
    │   └── ProvenFault  the same with evidence for a third party (secure_sum/evidence.py)
    ├── StateError       a state folder, lock, log or process that is not as it must be
    │   └── ChainError   a hash-chained log that was edited, truncated or rolled back
    └── TransportError   Flower or the network

Messages carry nothing about a patient: no id, text, count, loss or norm that depends on records.
"""

from __future__ import annotations


class ChoralError(Exception):
    """Base of every error that Choral raises on purpose.

    `problem` says in one sentence what is wrong; `field`, `value`, `limit` and `remedy` are appended when given.
    """

    def __init__(
        self,
        problem: str,
        *,
        field: str | None = None,
        value: object = None,
        limit: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.field = field
        self.value = value
        self.limit = limit
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.problem.rstrip(".")]
        if self.field is not None:
            parts.append(f"field: {self.field}")
        if self.value is not None:
            parts.append(f"value: {self.value}")
        if self.limit is not None:
            parts.append(f"limit: {self.limit}")
        if self.remedy is not None:
            parts.append(f"remedy: {self.remedy}")
        return "; ".join(parts)


class ConfigError(ChoralError):
    """A file or an argument that a person wrote is not valid."""


class PolicyError(ChoralError):
    """A study asks for more than this hospital's policy allows."""


class DataError(ChoralError):
    """Records cannot be read or do not fit their declaration."""


class PrivacyError(ChoralError):
    """A privacy guarantee would not hold."""


class BudgetError(PrivacyError):
    """A reservation would pass the site's lifetime epsilon."""


class TrustError(ChoralError):
    """A signature, roster, key or certificate does not verify."""


class ProtocolError(ChoralError):
    """A message that the secure sum must refuse; nothing was released."""


class RoundVoid(ProtocolError):
    """A round that can give no sum any more; its number is never used again."""


class StateError(ChoralError):
    """A state folder, lock, log or process is not as it must be."""


class ChainError(StateError):
    """A hash-chained log was edited, truncated or rolled back."""


class TransportError(ChoralError):
    """Flower or the network failed."""
