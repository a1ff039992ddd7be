"""A process that decodes with the published Fast-dLLM code and answers JSON lines.

    PYTHON worker.py DIR        DIR: a checkout of NVlabs/Fast-dLLM, or its folder with generate.py

It stands alone, for the published code needs an interpreter of its own (transformers 4.49): the
standard library, torch and what is in DIR. A request is one line of JSON on stdin, its answer one
line on stdout: `{"load": {...}}`, then any number of `{"decode": {...}}`; the fields are those of
`Task` in `peer.py`. What goes wrong is answered as `{"error": "..."}`.

Source of what is called: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618; NVlabs/Fast-dLLM 24cc59e,
llada/generate.py and llada/model/modeling_llada.py.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Handler = Callable[..., dict[str, Any]]


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Call, and give the wall time and the process's CPU time, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return found, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def serve(handlers: dict[str, Handler]) -> None:
    """Answer requests until stdin ends. What the handlers print goes to stderr."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            try:
                ((name, fields),) = json.loads(line).items()
                answer = handlers[name](**fields)
            # the asker has to learn of any failure, and decides what to do
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)


def code_folder(checkout: Path) -> Path:
    """Find the folder of a checkout that has LLaDA's generate.py."""
    tried = [checkout / "v1" / "llada", checkout / "llada", checkout]
    for folder in tried:
        if (folder / "generate.py").is_file() and (folder / "model" / "modeling_llada.py").is_file():
            return folder
    raise SystemExit(
        f"--fast-dllm: wanted a checkout of NVlabs/Fast-dLLM with llada/generate.py and "
        f"llada/model/modeling_llada.py, found none in {', '.join(map(str, tried))}"
    )


class Published:
    """The published model and its three loops."""

    def __init__(self, folder: Path) -> None:
        """Import the code of a folder; its modules are called `generate` and `model`."""
        sys.path.insert(0, str(folder))
        import generate  # type: ignore[import-not-found]

        self.code = generate
        self.loops = {
            "none": generate.generate,
            "prefix": generate.generate_with_prefix_cache,
            "dual": generate.generate_with_dual_cache,
        }
        self.model: Any = None

    def load(self, path: str, threads: int, eos_id: int | None = None) -> dict[str, Any]:
        """Load a checkpoint in float32. The code has no stop at an eos, so `eos_id` is not used."""
        import torch
        import transformers

        del eos_id
        torch.set_num_threads(threads)
        self.model = self.code.LLaDAModelLM.from_pretrained(path, torch_dtype=torch.float32).eval()
        return {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}

    def decode(self, prompt: list[int], new: int, block: int, cache: str, policy: dict[str, Any]) -> dict[str, Any]:
        """Decode one prompt; the time is that of the loop alone."""
        import torch

        ids = torch.tensor([prompt])
        # a threshold does not look at `steps`, which must only be divisible by the number of blocks
        how = {"steps": policy.get("steps", new), "threshold": policy.get("threshold")}
        mask_id = self.model.config.mask_token_id
        fixed = {"gen_length": new, "block_length": block, "temperature": 0.0, "mask_id": mask_id}
        (tokens, nfe), times = timed(lambda: self.loops[cache](self.model, ids, **fixed, **how))
        return {"tokens": tokens[0, len(prompt) :].tolist(), "nfe": nfe, **times}


def main() -> None:
    """Serve the code of the folder named on the command line."""
    published = Published(code_folder(Path(sys.argv[1])))
    serve({"load": published.load, "decode": published.decode})


if __name__ == "__main__":
    main()
