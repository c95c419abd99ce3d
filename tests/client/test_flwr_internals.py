"""Fails loudly when the pinned Flower changes a name or a behaviour that Choral's executor and SuperNode stand on."""

from __future__ import annotations

import inspect
import threading
import time

import flwr
import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse, SendTaskHeartbeatResponse
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid
from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.runtime import run_clientapp

from client import executor
from client.supernode import CappedClock, cap_idle_pause
from deploy.flower_env import shorten_pull_pause


def test_version_is_the_pinned_one() -> None:
    assert flwr.__version__.startswith("1.41.")


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (RuntimeHttpClient.from_server_address, "server_address insecure root_certificates interceptors retry_invoker"),
        (RuntimeVersionHttpInterceptor, "component_name"),
        (RuntimeTokenHttpInterceptor, "token"),
        (SuperExecAuthHttpInterceptor, "master_secret protected_methods"),
        (HeartbeatSender, "heartbeat_fn"),
        (run_clientapp.pull_task_input, "client"),
        (run_clientapp.push_message, "client message context"),
        (run_clientapp.push_task_output, "client context sub_status details"),
        (HttpGrid.push_messages, "self messages"),
        (HttpGrid.pull_messages, "self message_ids"),
        (HttpGrid.get_nodes, "self"),
        (flower_supernode, ""),
    ],
)
def test_signatures(function: object, parameters: str) -> None:
    assert list(inspect.signature(function).parameters) == parameters.split()


def test_retry_invoker_takes_our_arguments() -> None:
    names = set(inspect.signature(RetryInvoker).parameters)
    assert {"wait_gen_factory", "recoverable_exceptions", "max_tries", "max_time", "should_giveup"} <= names
    assert "wait_function" in names


def test_messages_have_the_fields_that_we_use() -> None:
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    assert list(request.supported_task_types) == ["flwr-clientapp"]
    assert {"task", "token"} <= set(AcquireTaskResponse.DESCRIPTOR.fields_by_name)
    assert "success" in SendTaskHeartbeatResponse.DESCRIPTOR.fields_by_name


def test_the_idle_loop_still_pauses_through_its_time_module(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(start_client_internal.start_client_internal)
    assert source.count("time.sleep(3)") == 1
    monkeypatch.setattr(start_client_internal, "time", time)
    cap_idle_pause(start_client_internal, 0.01)
    started = time.monotonic()
    start_client_internal.time.sleep(60)
    assert time.monotonic() - started < 30
    assert isinstance(start_client_internal.time, CappedClock)
    assert start_client_internal.time.monotonic() >= started
    with pytest.raises(RuntimeError, match="no longer pauses"):
        cap_idle_pause(start_client_internal, 0.01)


def test_pull_pauses_are_shortened_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        before = dict(function.__kwdefaults__)
        monkeypatch.setattr(function, "__kwdefaults__", dict(before))
        shorten_pull_pause(function)
        changed = {name for name, value in function.__kwdefaults__.items() if before[name] != value}
        assert changed <= {"initial_backoff", "backoff_cap"}
        assert function.__kwdefaults__["initial_backoff"] == 0.05
    with pytest.raises(RuntimeError, match="no longer have"):
        shorten_pull_pause(lambda: None)
    # The two helpers that use them must still be the ones whose defaults were changed.
    assert run_clientapp.pull_and_inflate_object_from_tree is inflatable_utils.pull_and_inflate_object_from_tree
    assert start_client_internal.pull_objects is inflatable_utils.pull_objects


def test_only_the_bundles_own_runner_installs_bundles() -> None:
    """What the executor imports from that module must not touch the bundle."""
    for function in (run_clientapp.pull_task_input, run_clientapp.push_message, run_clientapp.push_task_output):
        assert "install" not in inspect.getsource(function)


def status_error(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1/")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(("code", "calls"), [(401, 1), (403, 1), (404, 1), (503, 3)])
def test_our_retry_gives_401_back_and_waits_for_503(code: int, calls: int) -> None:
    """Flower's own invoker would send SIGINT to this very process on a 401."""
    stop = threading.Event()
    seen: list[int] = []

    def call() -> str:
        seen.append(code)
        if len(seen) < 3:
            raise status_error(code)
        return "done"

    invoker = executor._retry(stop, 30.0)
    invoker.jitter = lambda _seconds: 0.0
    if calls == 1:
        with pytest.raises(httpx.HTTPStatusError):
            invoker.invoke(call)
    else:
        assert invoker.invoke(call) == "done"
    assert len(seen) == calls


def test_a_lost_heartbeat_is_silence_not_a_signal() -> None:
    class Client:
        calls = 0

        def SendTaskHeartbeat(self, _request: object) -> SendTaskHeartbeatResponse:
            self.calls += 1
            return SendTaskHeartbeatResponse(success=False)

    client = Client()
    beat = executor._Beat(client)
    assert beat()
    assert beat()
    assert client.calls == 1
