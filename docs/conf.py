"""Sphinx settings, and the page of every setting, which is written from the code when the docs are built."""

from pathlib import Path

from rltrain.config.reference import Part, part, parts
from rltrain.registry import KINDS

project = "rltrain"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]


def section(found: Part) -> str:
    """A block or component: what its docstring says, and its settings as a list."""
    plain = "\n" not in found.about
    lines = [f"### {found.name}\n", f"{found.about}\n" if plain else f"```text\n{found.about}\n```\n"]
    for setting in found.settings:
        default = f"default `{setting.default}`" if setting.default else "must be given"
        lines.append(f"* **{setting.path}** ({setting.takes}; {default}): {' '.join(setting.meaning.split())}")
    return "\n".join([*lines, "\n"])


def write_settings(app: object) -> None:
    """docs/settings.md."""
    found = [part(name) for name in parts()]
    text = "# Every setting\n\nAs `rltrain explain NAME` shows it.\n\n"
    for kind in ("block", *KINDS):
        text += f"## {'blocks of a file' if kind == 'block' else kind}\n\n"
        text += "".join(section(each) for each in found if each.kind == kind)
    Path(__file__).with_name("settings.md").write_text(text)


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_settings)  # type: ignore[attr-defined]
