"""A study read back, finished or not, and left as it is."""

from __future__ import annotations

import json
from pathlib import Path

from rltrain.config.load import load
from rltrain.core import ConfigError
from rltrain.records import SUMMARY
from rltrain.rundir import STUDY, NoRun
from rltrain.tuning.storage import file_of, open_store
from rltrain.tuning.study import Study, study_names


def read_study(folder: Path, storage: str | None) -> Study:
    """The study of a folder, from the storage that its trials are in; by default the journal beside the folder.

    Raises NoRun where the storage has no such study, StorageError, ConfigError.
    """
    import optuna

    config = load(folder / STUDY).config
    if config.tune is None:
        raise ConfigError(f"{folder / STUDY}: has no block 'tune', which says what was searched")
    path = file_of(storage, folder.parent)
    if path is not None and not path.is_file():
        kept = _noted_storage(folder)
        raise NoRun(f"{path}: there is no such storage; name it with --storage" + (f" ({kept})" if kept else ""))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    store = open_store(storage, folder.parent)
    name = folder.resolve().name
    if name not in (known := study_names(store)):
        raise NoRun(f"{store.shown}: has no study {name} (it has: {', '.join(known) or 'none'})")
    found = optuna.load_study(study_name=name, storage=store.optuna)
    return Study(store, found, config, folder, warn=lambda text: None, interrupted=lambda: True)


def _noted_storage(folder: Path) -> str | None:
    """Where a finished study says that it was kept."""
    try:
        return str(json.loads((folder / SUMMARY).read_bytes())["storage"])
    except (OSError, ValueError, KeyError):
        return None
