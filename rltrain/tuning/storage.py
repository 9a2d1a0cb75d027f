"""Where studies are kept: a journal file, SQLite or PostgreSQL; each may be shared by any number of processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from rltrain.core import ConfigError, RltrainError, first_line
from rltrain.redaction import hide, redact
from rltrain.tuning.journal import lock_path, open_journal

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "studies.journal"
BUSY_SECONDS = 60
KINDS = "a journal file (studies.journal), sqlite:///studies.db or postgresql+psycopg://user@host/database"


class StorageError(RltrainError):
    """The storage cannot be reached, or refuses."""

    exit_code = 74


@dataclass(frozen=True)
class Store:
    """A storage that is open."""

    optuna: BaseStorage
    shown: str
    """Its address, without a password."""
    exclusive: Callable[[], AbstractContextManager[None]]
    """While entered, no other process that uses this storage is inside too."""
    faults: tuple[type[Exception], ...] = ()
    """What is raised while it cannot be reached, after which it may be reached again."""


def open_store(url: str | None, folder: Path) -> Store:
    """Open a storage, made where there is none; by default the journal in `folder`.

    Raises ConfigError for an address of another kind, StorageError where it cannot be opened.
    """
    scheme, mark, _ = (url or "").partition("://")
    path = file_of(url, folder)
    if path is not None:
        return _sqlite(str(url), path) if mark else _journal(path)
    assert url is not None
    if scheme == "postgresql+psycopg":
        return _postgresql(url)
    _hide_password(url)
    near = "; for PostgreSQL write postgresql+psycopg://" if scheme.startswith("postgres") else ""
    raise ConfigError(f"--storage {redact(url)}: unknown kind '{scheme}'{near} (known: {KINDS})")


def file_of(url: str | None, folder: Path) -> Path | None:
    """The file of a journal or of SQLite's; None for what is no file."""
    if url is None:
        return folder / JOURNAL
    scheme, mark, rest = url.partition("://")
    if not mark:
        return Path(url)
    return Path(rest.partition("?")[0].removeprefix("/")) if scheme == "sqlite" else None


def _journal(path: Path) -> Store:
    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        raise ConfigError(f"--storage {path}: a database is named sqlite:///{path}")
    if path.is_dir():
        raise ConfigError(f"--storage {path}: a folder; name a file in it, such as {path / JOURNAL}")
    return Store(open_journal(path), str(path), lambda: _file_lock(path))


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold a file's lock; the system frees it when the process ends."""
    descriptor = os.open(lock_path(path, "turn"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sqlite(url: str, path: Path) -> Store:
    if not path.name or path.name == ":memory:":
        raise ConfigError(f"--storage {url}: expected a file, as in sqlite:///studies.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _file_lock(path):  # two that make the tables at once would fail
        storage, faults = _database(url, {"connect_args": {"timeout": BUSY_SECONDS}})
    return Store(storage, url, lambda: _file_lock(path), faults)


def _postgresql(url: str) -> Store:
    _hide_password(url)
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigError("--storage postgresql+psycopg://...: needs pip install 'rltrain[postgres]'") from None
    options: dict[str, Any] = {
        "pool_pre_ping": True,  # else a server that was restarted ends the study
        "connect_args": {"connect_timeout": 10},
    }
    with _made_once(url, options):
        storage, faults = _database(url, options)
    return Store(storage, redact(url), lambda: _advisory_lock(storage.engine, url), faults)


@contextmanager
def _made_once(url: str, options: dict[str, Any]) -> Iterator[None]:
    """Let nobody else make the tables at the same time."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url, **options)
        with _advisory_lock(engine, url):
            yield
        engine.dispose()
    except SQLAlchemyError as error:
        raise StorageError(f"--storage {redact(url)}: {reason(error)}") from None


@contextmanager
def _advisory_lock(engine: Any, url: str) -> Iterator[None]:
    """Hold a lock of the server's, which frees it when the connection ends."""
    from sqlalchemy import text

    digest = hashlib.sha256(b"rltrain tune " + url.rpartition("/")[2].encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    with engine.connect() as connection, connection.begin():  # the end of the transaction frees it
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def _database(url: str, options: dict[str, Any]) -> tuple[Any, tuple[type[Exception], ...]]:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        return RDBStorage(url, engine_kwargs=options), (StorageInternalError, DBAPIError)
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ValueError) as error:
        raise StorageError(f"--storage {redact(url)}: {reason(error)}") from None


def _hide_password(url: str) -> None:
    """Have the password removed from whatever is told from now on, in the ways in which it may be written."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return
    told = [parsed.password, *(value for name, value in parsed.query.items() if "password" in name)]
    for password in told:
        if isinstance(password, str):
            for form in (password, quote(password, safe=""), quote_plus(password)):
                hide(form)


def reason(error: BaseException) -> str:
    """The first line of what a database says, without a password."""
    cause: BaseException = error.__cause__ if error.__cause__ is not None else error
    return redact(first_line(getattr(cause, "orig", None) or cause))
