"""Every way to leave out one check of the secure sum: where it stands, and the source without it.

A mutant is known by file, function, kind, the check's own words and a count among equals, never by a line number, so that
it is found again when code moves. The kinds:
  call   a statement that is one call is left out: a check, `need(...)`, a durable write, an erasure
  guard  an `if` that refuses, or that returns early, does not fire
  part   one condition of several holds: of what is needed, asked, returned or guarded against
  alarm  a refusal is not searched for evidence
  order  two durable writes that follow each other change places
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ssl_core" / "secure_sum"

FILES = (
    "alarms", "answer", "backup", "backup_checks", "checkpoint_checks", "checks", "closing", "codec", "coordinator",
    "dealing", "epochs", "evidence", "history", "intake", "journal", "keys", "opening", "params", "recovery", "sealing",
    "server_round", "shamir", "shelf", "site", "starting", "statements", "upload", "vault",
)  # fmt: skip
# Arithmetic on vectors, the plain reference, and forms: exactness and vectors test these, there is no check to leave out.
NO_PROTOCOL = (
    "__init__", "masks", "memory", "messages", "plain", "plain_site", "ring", "roles", "rotation", "threads", "vector",
)  # fmt: skip

_WORDS = 100
_LOCAL = {"append", "extend", "update", "add", "setdefault", "sort"}
_DURABLE = ("journal.write", "journal.alarm", "journal.dispute", "vault.put_", "store.write", "store.append", "history.jump")
_EVIDENCE = {"alarmed", "_alarmed", "_blaming"}


@dataclass(frozen=True)
class Mutant:
    """`check` is what is left out, in its own words; the source [begin, end) becomes `text`; `lines` is its statement."""

    file: str
    function: str
    kind: str
    check: str
    count: int
    begin: int
    end: int
    text: str
    lines: tuple[int, int]

    @property
    def name(self) -> tuple[str, str, str, str, int]:
        """What stays the same when code moves."""
        return self.file, self.function, self.kind, self.check, self.count

    def applied(self, source: bytes) -> bytes:
        """The source without the check."""
        return source[: self.begin] + self.text.encode() + source[self.end :]


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """All mutants of one file, in order."""
    found = sorted(_Finder(file, source).found, key=lambda mutant: (mutant.begin, mutant.end, mutant.kind, mutant.text))
    seen: Counter[tuple[str, str, str, str, int]] = Counter()
    numbered = []
    for mutant in dict.fromkeys(found):
        seen[mutant.name] += 1
        numbered.append(replace(mutant, count=seen[mutant.name]))
    return numbered


def all_mutants(files: tuple[str, ...] = FILES) -> list[Mutant]:
    """All mutants of these files of the tree, those that it has."""
    paths = [FOLDER / f"{file}.py" for file in files]
    return [mutant for path in paths if path.exists() for mutant in mutants_of(path.stem, path.read_bytes())]


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.starts = [0]
        for line in source.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.scope: list[str] = []
        self.lines = (0, 0)
        self.found: list[Mutant] = []
        self.visit(ast.parse(source))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node, node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name not in ("__repr__", "__reduce__"):
            self._inside(node, *(("<locals>",) if self.scope and self.scope[-1][0].islower() else ()), node.name)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt) and self.scope:
            self.lines = (node.lineno, node.end_lineno or node.lineno)
            self._statement(node)
            bodies = [value for value in vars(node).values() if isinstance(value, list)]
            for child in (child for body in bodies for child in body if isinstance(child, ast.stmt | ast.excepthandler)):
                self.visit(child)
            for body in bodies:
                self._swaps([child for child in body if isinstance(child, ast.stmt)])
        else:
            super().generic_visit(node)

    def _inside(self, node: ast.ClassDef | ast.FunctionDef, *names: str) -> None:
        self.scope += names
        for child in node.body:
            self.visit(child)
        if isinstance(node, ast.FunctionDef):
            self._swaps(node.body)
        del self.scope[-len(names) :]

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _is_local(node.value):
            self._add("call", node, "None")
            if _called(node.value).endswith("need") and node.value.args:
                self._needed(node.value.args[0])
        elif isinstance(node, ast.If):
            if _refuses(node.body):
                self._add("guard", node.test, "False")
                self._refused(node.test)
            else:
                self._needed(node.test)
        elif isinstance(node, ast.Return | ast.Assign) and node.value is not None:
            self._needed(node.value)
        elif isinstance(node, ast.With) and _called(node.items[0].context_expr).split(".")[-1] in _EVIDENCE:
            self._add("alarm", node, "if True", until=node.items[-1].context_expr)

    def _needed(self, node: ast.expr) -> None:
        """Each condition that must hold for `node` to hold, one at a time."""
        if isinstance(node, ast.BoolOp):
            for part in node.values:
                if isinstance(node.op, ast.And):
                    self._add("part", part, "True")
                self._needed(part)
        elif isinstance(node, ast.Compare) and len(node.ops) > 1:
            ends = [node.left, *node.comparators]
            pairs = list(pairwise(ends))
            for left_out in pairs:
                kept = [self._text(*pair) for pair in pairs if pair is not left_out]
                self._add("part", left_out[0], f"({' and '.join(kept)})", until=left_out[1], whole=node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._refused(node.operand)
        elif isinstance(node, ast.Call) and _called(node) == "all" and isinstance(node.args[0], ast.GeneratorExp):
            self._needed(node.args[0].elt)

    def _refused(self, node: ast.expr) -> None:
        """Each condition of which one is enough to refuse, one at a time."""
        if isinstance(node, ast.BoolOp):
            for part in node.values:
                if isinstance(node.op, ast.Or):
                    self._add("part", part, "False")
                self._refused(part)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._needed(node.operand)

    def _swaps(self, body: list[ast.stmt]) -> None:
        durable = [statement for statement in body if _is_durable(statement)]
        for one, other in pairwise(durable):
            self.lines = (one.lineno, other.end_lineno or other.lineno)
            between = self.source[self._end(one) : self._begin(other)].decode()
            indent = "\n" + " " * one.col_offset
            text = between.lstrip() + self._text(other, other) + indent + self._text(one, one)
            self._add("order", one, text, until=other)

    def _add(self, kind: str, node: ast.AST, text: str, *, until: ast.AST | None = None, whole: ast.AST | None = None) -> None:
        check = " ".join(self._text(node, until or node).split())
        check = check if len(check) <= _WORDS else check[: _WORDS - 3] + "..."
        begin, end = self._begin(whole or node), self._end(whole or until or node)
        self.found.append(Mutant(self.file, ".".join(self.scope), kind, check, 0, begin, end, text, self.lines))

    def _text(self, first: ast.AST, last: ast.AST) -> str:
        return self.source[self._begin(first) : self._end(last)].decode()

    def _begin(self, node: ast.AST) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.AST) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset


def _called(node: ast.expr) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def _is_local(call: ast.Call) -> bool:
    """Filling a list of one's own, or building the object that one is: no check, and nothing works without."""
    base, _, name = _called(call).rpartition(".")
    return (base.isidentifier() and name in _LOCAL) or base == "super()"


def _is_durable(node: ast.stmt) -> bool:
    called = _called(node.value) if isinstance(node, ast.Expr) else ""
    return any(part in called for part in _DURABLE)


def _refuses(body: list[ast.stmt]) -> bool:
    last = body[-1]
    if isinstance(last, ast.Return):
        return len(body) == 1 and (last.value is None or isinstance(last.value, ast.Constant | ast.Tuple | ast.Dict | ast.Name))
    return isinstance(last, ast.Raise)


def statements_in(source: bytes) -> Iterator[str]:
    """For tests: the mutants of a piece of source in words."""
    for mutant in mutants_of("example", source):
        yield f"{mutant.function}: {mutant.kind}: {mutant.check} -> {mutant.text}"
