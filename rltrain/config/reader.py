"""YAML as people mean it: YAML 1.2 numbers and booleans, no duplicate keys, no surprises, and line numbers."""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rltrain.core import ConfigError

Path = tuple[str | int, ...]
MAX_BYTES = 1 << 20
MAX_NODES = 10_000
MAX_DEPTH = 64
MAX_DIGITS = 100

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_FLOAT = re.compile(r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*(_[0-9]+)*)?|\.[0-9]+(_[0-9]+)*)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0[0-9_]+")


@dataclass(frozen=True)
class Document:
    """What a file says, and on which line it says it."""

    data: dict[str, Any]
    lines: dict[Path, int]
    """Path of every key and item -> its line, counted from 1."""


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with nothing resolved implicitly; `_scalar` does that."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same, written in C where PyYAML has it."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


def read_file(path: FilePath) -> str:
    """The text of a configuration file. Raises ConfigError for anything but a small regular file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: not a regular file")
        if status.st_size > MAX_BYTES:
            raise ConfigError(
                f"{path}: {status.st_size:,} bytes is more than a configuration has (at most {MAX_BYTES:,})"
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {_elsewhere(path)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def shipped() -> FilePath:
    """The folder of the configurations that come with rltrain: in the package, or beside it in a checkout."""
    package = FilePath(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _elsewhere(path: FilePath) -> str:
    """Where the file may be that is not at `path`."""
    name = path.as_posix().removeprefix("configs/").removesuffix(".yaml")
    if not path.is_absolute() and (found := shipped() / f"{name}.yaml").is_file():
        return f"the one that comes with rltrain is {found}"
    return "`rltrain list configs` shows those that come with rltrain"


def read(text: str, source: str, *, fast: bool = False) -> Document:
    """Read one YAML mapping. Raises ConfigError with `source` and line.

    `fast` is for what rltrain wrote itself: eight times as fast, but it says less of what is no YAML.
    """
    node = _compose(text, source, _FastLoader if fast else _Loader)
    if node is None:
        raise ConfigError(f"{source}: the file is empty")
    if not isinstance(node, MappingNode):
        raise ConfigError(f"{source}:1: expected 'key: value' lines, got {_kind(node)}")
    walk = _Walk(source)
    data = walk.value(node, (), 0)
    if walk.errors:
        raise ConfigError(*walk.errors)
    return Document(data, walk.lines)


def read_value(text: str, source: str) -> Any:
    """Read the value of an override by the same rules."""
    node = _compose(text, source)
    if node is None:
        return None
    walk = _Walk(source)
    value = walk.value(node, (), 0)
    if walk.errors:
        raise ConfigError(
            *(f"{source}: {error.removeprefix(f'{source}:').partition(': ')[2]}" for error in walk.errors)
        )
    return value


def _compose(text: str, source: str, kind: Any = _Loader) -> Node | None:
    try:
        _check_depth(text, source)
        loader = kind(text)
        try:
            node: Node | None = loader.get_single_node()
            return node
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{source}: a character that YAML does not allow at position {error.position}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{source}:{line}: {error.problem or error.context or 'not YAML'}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{source}: nested too deep (at most {MAX_DEPTH} levels)") from None


def _check_depth(text: str, source: str) -> None:
    """Stop a flood of brackets before the parser, whose time and stack they would take."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        depth = max(depth + sum(map(line.count, "[{")) - sum(map(line.count, "]}")), 0)
        if depth > MAX_DEPTH or (len(line) - len(line.lstrip(" -"))) > 8 * MAX_DEPTH:
            raise ConfigError(f"{source}:{number}: nested too deep (at most {MAX_DEPTH} levels)")


def _kind(node: Node) -> str:
    if isinstance(node, SequenceNode):
        return "a list"
    return "a block" if isinstance(node, MappingNode) else f"'{str(node.value)[:40]}'"


class _Walk:
    """Turns nodes into values, notes their lines, and collects what is wrong."""

    def __init__(self, source: str) -> None:
        self.errors: list[str] = []
        self.lines: dict[Path, int] = {}
        self._source = source
        self._nodes = 0

    def value(self, node: Node, path: Path, depth: int) -> Any:
        """The value of a node. An alias counts each time it is used, so that a bomb is stopped."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"{self._at(node)}: more than {MAX_NODES:,} values, aliases counted as often as used")
        if depth > MAX_DEPTH:
            raise ConfigError(f"{self._at(node)}: nested too deep, or an alias that contains itself")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            self._tag(node, "tag:yaml.org,2002:map")
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            self._tag(node, "tag:yaml.org,2002:seq")
            return [self.value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        self._tag(node, "tag:yaml.org,2002:str")
        return node.value if node.style in ("'", '"', "|", ">") else self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._error(key_node, "a key must be a plain word")
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key == "<<":
                self._error(key_node, "merge keys are not supported: write the settings out")
            elif key in first:
                self._error(key_node, f"duplicate key '{key}' (first on line {first[key]})")
            else:
                first[key] = line
                self.lines[(*path, key)] = line
                data[key] = self.value(value_node, (*path, key), depth + 1)
        return data

    def _scalar(self, node: ScalarNode) -> Any:
        text: str = node.value
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text.lower() == "true"
        if _OCTAL.fullmatch(text):
            self._error(node, f"'{text}' begins with 0: write {text.lstrip('+-0_') or '0'}, or quote it if it is text")
            return None
        if len(text) > MAX_DIGITS and text[:1] in "+-.0123456789":
            self._error(node, f"a number of {len(text):,} characters")
            return None
        if _INT.fullmatch(text):
            return int(text.replace("_", ""))
        if _FLOAT.fullmatch(text):
            value = float(text.replace("_", ""))
            if math.isinf(value):
                self._error(node, f"{text} is too large a number")
            return value
        if text.lower().lstrip("+-") in (".inf", ".nan", "inf", "nan"):
            self._error(node, f"{text} is not a finite number; quote it if it is text")
            return None
        return text

    def _tag(self, node: Node, plain: str) -> None:
        if node.tag not in (plain, "!"):
            self._error(node, f"tags such as {node.tag} are not allowed")

    def _error(self, node: Node, message: str) -> None:
        self.errors.append(f"{self._at(node)}: {message}")

    def _at(self, node: Node) -> str:
        return f"{self._source}:{node.start_mark.line + 1}"
