"""The second decoder on whole rounds and on evidence: every byte made again, every sum opened, every fault judged alike.

It shares no code with the package, nor the library of its primitives; a test here holds it to that.
"""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from pathlib import Path

import pytest
import tests_second_decoder as decoder
import tests_second_evidence as evidence
import tests_second_study as study
import tests_second_wire as wire
from tests_second_replay import Differs, Replay
from tests_vector_files import frozen

from ssl_core.secure_sum import codec
from ssl_core.secure_sum import evidence as product_evidence
from ssl_core.secure_sum.params import SumParams

SECOND = sorted((Path(__file__).resolve().parents[2] / "shared").glob("tests_second_*.py"))


def test_second_decoder_imports_nothing_of_the_product_nor_its_libraries():
    own = {path.stem for path in SECOND}
    allowed = {"__future__", "functools", "hashlib", "hmac", "math", "re", "struct", "Crypto"} | own
    assert len(own) == 9
    for path in SECOND:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path.name
    program = f"import sys; sys.path.insert(0, {str(SECOND[0].parent)!r}); import tests_second_replay, tests_second_evidence; "
    program += "print([name for name in ('ssl_core', 'cryptography', 'numpy', 'torch') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# upload.json and round.json


@pytest.mark.parametrize(
    "told", frozen("upload.json")["studies"] + frozen("round.json")["studies"], ids=lambda told: told["what"]
)
def test_rounds_are_made_again_and_opened(told):
    replay = Replay(told)
    for part in told["rounds"]:
        replay.play(part)
    assert replay.made["UPLOAD"] >= 3


def test_rounds_hold_every_message_of_a_round():
    kinds = set()
    for told in frozen("round.json")["studies"]:
        kinds |= {decoder.kind_of(bytes.fromhex(line["message"])) for part in told["rounds"] for line in part["messages"]}
    server = {"START", "CONSENT", "UNMASK", "BACKUP", "CLOSE", "CHECKPOINT", "VOID"}
    assert kinds == server | {"UPLOAD", "AGREEMENT", "ANSWER", "BACKUP-ANSWER", "ACK"}


@pytest.mark.parametrize("told", frozen("round.json")["studies"], ids=lambda told: told["what"])
def test_reader_refuses_one_changed_bit_anywhere_and_any_other_sender(told):
    """From public keys alone, without any site's secret: it is no rubber stamp."""
    talk = decoder.Conversation(study.Study(bytes.fromhex(told["params"])))
    for part in told["rounds"]:
        if "keyset" in part:
            talk.renew(bytes.fromhex(part["keyset"]))
        for line in part["messages"]:
            for sender, data, vector in spoiled(line):
                with pytest.raises(ValueError):
                    copy.deepcopy(talk).take(sender, data, vector)
            talk.take(line["from"], bytes.fromhex(line["message"]), line.get("vector"))


def spoiled(line):
    data, vector = bytearray.fromhex(line["message"]), line.get("vector")
    for at in (*range(2, len(data), len(data) // 9), len(data) - 20):
        changed = data.copy()
        changed[at] ^= 1 << at % 8
        yield line["from"], bytes(changed), vector
    if vector:
        yield line["from"], bytes(data), [*vector[:-1], vector[-1] ^ 1]
    if line["from"] != "server":
        yield (line["from"] + 1) % 3, bytes(data), vector


@pytest.mark.parametrize("name", ["total", "mean", "transcript"])
def test_another_result_is_found(name):
    told = frozen("round.json")["studies"][0]
    part = told["rounds"][0]
    wrong = part[name][::-1]
    assert wrong != part[name]
    with pytest.raises(Differs):
        Replay(told).play(part | {name: wrong})


def test_sum_does_not_open_below_the_threshold():
    """One answer fewer than t, in a round that t answers open."""
    told = next(told for told in frozen("round.json")["studies"] if "three sites" in told["what"])
    part = told["rounds"][0]
    kinds = [decoder.kind_of(bytes.fromhex(line["message"])) for line in part["messages"]]
    first = kinds.index("ANSWER")
    with pytest.raises(decoder.Refused, match="too few shares"):
        Replay(told).play(part | {"messages": part["messages"][:first] + part["messages"][first + 1 :]})


# evidence.json


@pytest.mark.parametrize("case", frozen("evidence.json")["cases"], ids=lambda case: case["what"])
def test_evidence_proves(case):
    data = bytes.fromhex(case["alarm"])
    assert verdicts(data) == (True, True)
    alarm = wire.parse("ALARM", data)
    assert alarm["kind"] == case["kind"]
    for change in case["changes"]:
        values = {name: value if name == "kind" else bytes.fromhex(value) for name, value in change.items() if name != "why"}
        assert verdicts(wire.build("ALARM", **alarm | values)) == (False, False), change["why"]


@pytest.mark.parametrize("case", frozen("evidence.json")["innocent"], ids=lambda case: case["what"])
def test_no_evidence_where_there_is_no_fault(case):
    assert verdicts(bytes.fromhex(case["alarm"])) == (False, False)


def test_evidence_of_every_kind_is_there():
    kinds = {case["kind"] for case in frozen("evidence.json")["cases"]}
    assert kinds == set(evidence.CHECKS) == {str(kind) for kind in product_evidence.Kind}


def verdicts(data):
    """What the second decoder and the package say of an ALARM."""
    params = bytes.fromhex(frozen("evidence.json")["params"])
    alarm = codec.decode(product_evidence.Evidence, data)
    return evidence.proves(study.Study(params), data), product_evidence.proves(codec.decode(SumParams, params), alarm)
