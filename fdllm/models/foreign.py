"""From somebody's own module or function to a denoiser, whichever form it allows."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from fdllm.component import SettingError
from fdllm.models.denoiser import Denoiser
from fdllm.models.function import FunctionDenoiser
from fdllm.models.spec import Spec

STORED = {"past_key_values", "position_ids"}


def foreign(model: Any, spec: Spec) -> Denoiser:
    """Wrap a model.

    A causal LM of transformers decodes through its backbone, once that is known to give the logits
    of its own forward. Another module whose forward takes `past_key_values` and `position_ids` gets
    the slot store. What is left is a function from ids to logits.

    Raises:
        SettingError: it has the parameters of one of these, but does not compute like it.

    """
    if not isinstance(model, nn.Module) or not {*inspect.signature(model.forward).parameters} >= STORED:
        return FunctionDenoiser(model, spec)
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        from fdllm.models.module import ModuleDenoiser

        return ModuleDenoiser(model, spec)
    from fdllm.models.backbone import BackboneDenoiser

    made = BackboneDenoiser(model, spec)
    _hold(made, model)
    return made


@torch.inference_mode()
def _hold(made: Any, module: Any) -> None:
    """Hold that decoder stack and head give what the module's own forward does, over a few ids that all see all."""
    ids = torch.arange(5, device=made.device)[None] % module.get_input_embeddings().num_embeddings
    own = f"model: the {type(module).__name__}"
    try:
        ours = made.logits_under(Spec(mask_id=0), ids)
        theirs: Tensor = module(
            input_ids=ids,
            position_ids=torch.arange(5, device=made.device)[None],
            attention_mask=torch.zeros(1, 1, 5, 5, dtype=made.dtype, device=made.device),
            use_cache=False,
        ).logits
    except SettingError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SettingError(
            f"{own} cannot be run layer by layer over a slot store ({why}); give a function from ids to logits"
        ) from error
    if (ours - theirs).abs().max() > 256 * torch.finfo(made.dtype).eps * theirs.abs().max():
        raise SettingError(
            f"{own} does more than its decoder stack, full attention and its head (a scale or cap of its logits, say): "
            "its own logits differ; give a function from ids to logits"
        )
