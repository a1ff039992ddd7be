"""`fdllm doctor`: is everything here that a run needs? Every plugin is imported."""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version

import typer
from rich.console import Console
from rich.text import Text

from fdllm import registry
from fdllm.cli.options import Json


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `state` is ok, missing (a run can do without) or broken."""

    what: str
    state: str
    detail: str


def doctor(as_json: Json = False) -> None:
    """Check python, torch, the device, every plugin and the built-in model."""
    findings = [*libraries(), *devices(), *plugins(), *built_in_models()]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        console = Console(highlight=False, soft_wrap=True)
        color = {"ok": "green", "missing": "yellow", "broken": "bold red"}
        for finding in findings:
            line = Text.assemble((f"{finding.state:8}", color[finding.state]), f"{finding.what:34} {finding.detail}")
            console.print(line)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(2)


def libraries() -> Iterator[Finding]:
    """Look at the interpreter and the libraries underneath; triton is there on Linux only."""
    yield Finding("fdllm", "ok", version("fdllm"))
    yield Finding("python", "ok", platform.python_version())
    for name in ("torch", "transformers", "safetensors", "pydantic", "triton"):
        try:
            yield Finding(name, "ok", str(import_module(name).__version__))
        except ImportError as error:
            state = "missing" if name == "triton" else "broken"
            yield Finding(name, state, f"{error}; pip install {name}")


def devices() -> Iterator[Finding]:
    """Look at where a model would run with device = auto."""
    import torch

    if torch.cuda.is_available():
        yield Finding("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    else:
        yield Finding("device", "ok", f"cpu, {torch.get_num_threads()} threads (no GPU that torch can use)")


def plugins() -> Iterator[Finding]:
    """Import everything that is registered, our own components as well."""
    for group in registry.GROUPS:
        try:
            entries = registry.names(group)
        except registry.PluginError as error:
            yield Finding(group, "broken", str(error))
            continue
        for name, entry in sorted(entries.items()):
            what = f"{registry.SINGULAR[group]} {name}"
            try:
                registry.load(group, name)
            except registry.PluginError as error:
                yield Finding(what, "broken", str(error))
            else:
                yield Finding(what, "ok", registry.owner(entry))


def built_in_models() -> Iterator[Finding]:
    """Look for the files of every model that comes with the package."""
    from fdllm.models.files import BUILT_IN

    for name, folder in BUILT_IN.items():
        absent = [
            file for file in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / file).is_file()
        ]
        if absent:
            yield Finding(f"model {name}", "broken", f"{', '.join(absent)} not installed; install fdllm again")
        else:
            size = (folder / "model.safetensors").stat().st_size / 1e6
            yield Finding(f"model {name}", "ok", f"{size:.1f} MB of weights")
