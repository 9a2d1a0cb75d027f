"""Ray, which runs work on other machines: started here for one process alone, or a cluster that is joined safely.

Whoever reaches a Ray cluster can run any code on it. So what is started here listens on the loopback alone, behind a
token that nobody else has, and a cluster that lets in everybody is refused. Source: Ray, "Token authentication",
https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rltrain.core import ConfigError, RltrainError, first_line
from rltrain.sittings import usable_cores

STORE_BYTES = 80 << 20
"""Memory of a local object store; what goes through it here is small."""
ANSWER_SECONDS = 10.0
"""A cluster that says nothing for this long is not there."""
LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # one for the process: Ray reads it once
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way to say: loopback alone, on Linux too
}
"""Environment of a Ray that is started here. A token that is given is not written to the user's home."""


class NoCluster(RltrainError):
    """There is no Ray to work with."""

    exit_code = 69


@contextmanager
def connected(address: str | None = None, *, insecure: bool = False, cpus: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected while this is entered; what was started here is ended then, a cluster is only left.

    Without an address Ray is started on this machine, with `cpus` (by default the cores that may be used). An address
    is `HOST:PORT`, or `auto` for the cluster that this machine is part of. Where this process is connected already,
    as in a task of Ray's, that connection is used and stays.

    Raises ConfigError where Ray is not installed, where a cluster asks for no token and not `insecure`, and where it
    asks for one that there is not; NoCluster where there is none.
    """
    if find_spec("ray") is None:
        raise ConfigError("this needs Ray: pip install 'rltrain[distributed]'")
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        yield ray
        return
    with _started(cpus or usable_cores()) if address is None else _joined(_found(address), insecure) as ray:
        yield ray


@contextmanager
def _started(cpus: int) -> Iterator[Any]:
    """A Ray of this process's own, whose files nobody else looks for and which leaves none."""
    with _environment(LOCAL):
        import ray  # not before: it reads its environment when it is imported

        folder = tempfile.mkdtemp(prefix="rltrain-ray-", dir="/tmp")  # a short path: it has sockets in it
        try:
            _init_here(ray, cpus, folder)
            host = ray.get_runtime_context().gcs_address.rpartition(":")[0]
            if host != "127.0.0.1":
                raise NoCluster(f"Ray listens on {host}, not on the loopback: it was imported before its settings")
            yield ray
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def _init_here(ray: Any, cpus: int, folder: str) -> None:
    """Start Ray on this machine, with its files in a folder. Raises NoCluster."""
    store = {"object_store_memory": STORE_BYTES, "_temp_dir": folder}
    try:
        _init(ray, address="local", num_cpus=cpus, include_dashboard=False, **store)
    except Exception as error:  # Ray's own word for a machine that is too slow to start it in its time
        raise NoCluster(f"Ray could not be started on this machine: {first_line(error)}") from None


def _found(address: str) -> str:
    """HOST:PORT of a cluster; for `auto` of the one that this machine is in. Raises ConfigError, NoCluster."""
    if address == "auto":
        folder = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"
        try:
            address = os.environ.get("RAY_ADDRESS") or (folder / "ray_current_cluster").read_text().strip()
        except FileNotFoundError:
            raise NoCluster("--ray-address auto: no Ray cluster was started on this machine (ray start)") from None
    if not re.fullmatch(r"[^:/\s]+:\d+", address):
        raise ConfigError(f"--ray-address {address}: expected HOST:PORT or auto")
    return address


@contextmanager
def _joined(address: str, insecure: bool) -> Iterator[Any]:
    """A cluster, with its token where it asks for one."""
    guarded = _asks_for_token(address)
    if not guarded and not insecure:
        raise ConfigError(
            f"the Ray cluster at {address} asks for no token: whoever reaches it can run anything on it. Make one "
            "(ray get-auth-token --generate), copy ~/.ray/auth_token to every machine and start Ray there with "
            "RAY_AUTH_MODE=token; or, where nobody else reaches it, use --insecure-ray"
        )
    with _environment({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token" if guarded else "disabled"}):
        import ray

        try:
            _init_there(ray, address)
            yield ray
        finally:
            ray.shutdown()


def _init_there(ray: Any, host: str) -> None:
    """Connect to a cluster. Raises ConfigError, NoCluster."""
    try:
        _init(ray, address=host)
    except ray.exceptions.AuthenticationError:
        raise ConfigError(
            f"the Ray cluster at {host} asks for a token, and the right one is not here: put it into "
            "~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"
        ) from None
    except (ConnectionError, RuntimeError) as error:
        raise NoCluster(
            f"cannot join the Ray cluster at {host}: this machine must be in it (ray start --address={host}), with the "
            f"cluster's token: {first_line(error)}"
        ) from None


def _asks_for_token(address: str) -> bool:
    """Whether a cluster turns away who brings no token. Raises NoCluster where nobody answers."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return True
            raise NoCluster(f"no Ray cluster answers at {address} ({error.code().name.lower()})") from None
    return False


def _init(ray: Any, **options: Any) -> None:
    """Connect, quietly, and leave the signals to those who had them."""
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(**options, log_to_driver=False, configure_logging=False)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    """These environment variables, and afterwards what was there before."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
