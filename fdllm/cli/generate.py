"""`fdllm generate`: decode prompts from an option, a JSONL file or stdin."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fdllm.cli.options import ConfigFile, Json, ModelPath, Overrides, Seed, decoding_config


def generate(
    config: ConfigFile = None,
    model: ModelPath = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="One prompt.")] = None,
    prompt_ids: Annotated[
        str | None, typer.Option("--prompt-ids", metavar="LIST", help="One prompt as token ids: '[1, 2, 3]'")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="JSONL: a line has prompt, prompt_ids or messages, and id."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write JSONL; a killed run started again continues there."),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Texts are messages of a user: put them into the model's chat template.")
    ] = False,
    overrides: Overrides = None,
    seed: Seed = None,
    as_json: Json = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Prompts decoded together. [default: 8 with --output, else 1]"),
    ] = None,
) -> None:
    """Decode prompts and print their texts; without a prompt, read one a line from stdin."""
    from fdllm.cli.job import Job
    from fdllm.cli.prompts import read_prompts
    from fdllm.cli.ranks import first

    settings = decoding_config(config, model, overrides, seed=seed)
    rows = read_prompts(prompt, prompt_ids, prompts, processes=settings.model.tp)
    job = Job.checked(settings, rows, batch_size or (8 if output else 1), chat)
    speaks = first(job.decoder.model)
    if output is not None:
        summary = job.write(output)
        if speaks:
            print(json.dumps(summary)) if as_json else typer.echo(told(summary), err=True)
        return
    for lines, out in job.batches():
        for line in lines if speaks else ():
            full = {**line, "stats": out.stats.to_dict(), "record": job.record()}
            print(json.dumps(full, ensure_ascii=False) if as_json else shown(line), flush=True)


def shown(line: dict[str, Any]) -> str:
    """Show a result to people: its text, or its ids where the model has no tokenizer."""
    return str(line["tokens"] if line["text"] is None else line["text"])


def told(summary: dict[str, Any]) -> str:
    """Tell people what was written."""
    before = f", {summary['resumed']} of them there before" if summary["resumed"] else ""
    speed = f"; {summary['tokens_per_second']:.0f} tokens/s" if summary["nfe"] else ""
    return f"{summary['output']}: {summary['rows']} rows{before}{speed}"
