"""Step 9 of 12: the pinned executor: one long-lived process that does a site's tasks with the INSTALLED code only.

Flower would start a process for each message and run in it whatever code the server shipped. Here the SuperNode runs
with `--isolation process` and this process alone takes its tasks, proving itself by the secret that both share
(ruling 30). The shipped bundle arrives beside a task and is ignored: never written, imported or executed.

Comes in: tasks from the SuperNode's Runtime API on loopback. Goes out: one reply per task. A task that cannot be
answered (the SuperNode went away, the run ended) is dropped: Flower reports it to the server as unanswered after 60 s,
the server asks again, and the site answers from its journal.

All names used here are internal to flwr and pinned with it; tests/client/test_flwr_internals.py fails when they move.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    pull_objects,
)
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from client.flower_app import App, Service, make_app
from client.watcher import Watcher
from deploy.flower_env import check_secret, shorten_pull_pause
from ssl_core.errors import ConfigError

_LOG = logging.getLogger("choral.executor")
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_POLL_S = 0.1
_REFUSED_WAIT_S = 5.0
# A SuperNode that restarts has forgotten its tasks: waiting longer for it would only delay the next one.
_TASK_PATIENCE_S = 15.0
_RETRY_STATUS = frozenset({502, 503, 504})
# What ends one task without ending the process: the network, Flower's refusals, and objects that expired on the way.
_TASK_ERRORS = (httpx.HTTPError, ObjectPullError, ObjectPushError, RuntimeError, ValueError)


def run(
    site_home: Path,
    runtime_api: str,
    secret: bytes,
    *,
    service: Service | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Take and do tasks until `stop` is set. `service` is for tests; by default the site's own is loaded.

    Between tasks, and never during one, the site's staff may have the encoder looked at (watcher.py).
    """
    stop = stop or threading.Event()
    shorten_pull_pause(pull_objects, pull_and_inflate_object_from_tree)
    app = make_app(site_home, service)
    watcher = Watcher(site_home)
    client = _client(runtime_api, _acquire_interceptors(secret), _retry(stop, patience_s=None))
    _LOG.info("ready")
    try:
        while not stop.is_set():
            token = _acquire(client, stop)
            if token is None:
                stop.wait(_POLL_S)
                continue
            watcher.cut()
            _do_task(runtime_api, token, app, stop)
            watcher.look()
    finally:
        watcher.close()
        client.close()


def _acquire_interceptors(
    secret: bytes,
) -> list[RuntimeVersionHttpInterceptor | SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor]:
    return [
        RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={_ACQUIRE}),
    ]


def _client(
    runtime_api: str,
    interceptors: list[RuntimeVersionHttpInterceptor | SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor],
    retry: RetryInvoker,
) -> RuntimeHttpClient:
    # Loopback only: `main` refuses another address, so plain HTTP leaves no machine.
    return RuntimeHttpClient.from_server_address(
        server_address=runtime_api,
        insecure=True,
        root_certificates=None,
        interceptors=interceptors,
        retry_invoker=retry,
    )


def _retry(stop: threading.Event, patience_s: float | None) -> RetryInvoker:
    """Flower's own invoker signals its process on a 401; this one only ever waits or gives the error back."""

    def wait(seconds: float) -> None:
        stop.wait(seconds)

    def give_up(error: Exception) -> bool:
        if stop.is_set():
            return True
        return isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _RETRY_STATUS

    return RetryInvoker(
        wait_gen_factory=lambda: exponential(max_delay=2),
        recoverable_exceptions=(httpx.TransportError, httpx.HTTPStatusError),
        max_tries=None,
        max_time=patience_s,
        should_giveup=give_up,
        wait_function=wait,
    )


def _acquire(client: RuntimeHttpClient, stop: threading.Event) -> str | None:
    try:
        response = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
    except httpx.HTTPStatusError as error:
        _LOG.error("the SuperNode refuses this executor with HTTP status %d", error.response.status_code)
        stop.wait(_REFUSED_WAIT_S)
        return None
    except httpx.TransportError as error:
        if not stop.is_set():
            _LOG.warning("the SuperNode does not answer: %s", type(error).__name__)
        return None
    return response.token if response.HasField("task") and response.token else None


def _do_task(runtime_api: str, token: str, app: App, stop: threading.Event) -> None:
    client = _client(
        runtime_api,
        [RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), RuntimeTokenHttpInterceptor(token)],
        _retry(stop, _TASK_PATIENCE_S),
    )
    heartbeat = HeartbeatSender(_Beat(client))
    heartbeat.start()
    try:
        message, context, _run, _bundle = pull_task_input(client)
        push_message(client, app(message), context)
        push_task_output(client=client, context=context, sub_status=SubStatus.COMPLETED, details="")
    except _TASK_ERRORS as error:
        # No output is pushed: the task expires, which frees the SuperNode and tells the server to ask again.
        _LOG.warning("a task was dropped: %s", type(error).__name__)
    finally:
        if heartbeat.is_running:
            heartbeat.stop()
        client.close()


class _Beat:
    """Flower's heartbeat function signals its process when a task has expired; this one falls silent instead."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._silent = False

    def __call__(self) -> bool:
        if self._silent:
            return True
        try:
            response = self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except httpx.HTTPError as error:
            self._silent = True
            _LOG.warning("a task's heartbeat ended: %s", type(error).__name__)
            return True
        if not response.success:
            self._silent = True
            _LOG.warning("a task expired while it was being done")
        return True


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    # Told twice, by supervisor and guard, it leaves once.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def main(arguments: list[str] | None = None) -> None:
    """`python -m client.executor --site-home DIR --runtime-api 127.0.0.1:PORT --secret-file F`."""
    parser = argparse.ArgumentParser(prog="client.executor", description="Choral's pinned executor for one site.")
    parser.add_argument("--site-home", type=Path, required=True)
    parser.add_argument("--runtime-api", required=True, help="the SuperNode's Runtime API, 127.0.0.1:PORT")
    parser.add_argument("--secret-file", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    if not chosen.runtime_api.startswith("127.0.0.1:"):
        raise ConfigError(
            "the Runtime API must be on loopback",
            field="--runtime-api",
            value=chosen.runtime_api,
            limit="127.0.0.1:PORT",
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _leave)
    run(chosen.site_home, chosen.runtime_api, check_secret(chosen.secret_file).read_bytes())


if __name__ == "__main__":
    main()
