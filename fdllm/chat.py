"""Conversations as prompts: the model's own chat template, through its tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from fdllm.models.denoiser import Denoiser

Message = Mapping[str, str]
Conversation = Sequence[Message]


class ChatError(ValueError):
    """A conversation cannot be read as a prompt; the message says why."""


def is_conversation(given: Any) -> bool:
    """Say whether something is a list of messages, well formed or not."""
    return isinstance(given, Sequence) and bool(given) and all(isinstance(each, Mapping) for each in given)


def is_unicode(text: str) -> bool:
    """Say whether a text can be written as UTF-8; half a surrogate pair, or a byte that was no UTF-8, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def ids_of(messages: Conversation, denoiser: Denoiser) -> list[int]:
    """Render messages, up to where the answer begins, and encode them.

    The template writes every special token itself, so the tokenizer adds none.

    Args:
        messages: `{"role": "user", "content": "..."}` each, in order.
        denoiser: its tokenizer holds the template.

    Raises:
        ChatError: what `text_of` finds.

    """
    return list(denoiser.tokenizer(text_of(messages, denoiser), add_special_tokens=False).input_ids)


def text_of(messages: Conversation, denoiser: Denoiser, *, continued: bool = False) -> str:
    """Render messages, up to where the answer begins.

    Args:
        messages: see `ids_of`.
        denoiser: its tokenizer holds the template.
        continued: the last message is the begin of the answer, which is left open.

    Raises:
        ChatError: no tokenizer or template, a message that is none, or one the template refuses.

    """
    tokenizer = denoiser.tokenizer
    if getattr(tokenizer, "chat_template", None) is None:
        raise ChatError(f"{denoiser.name} has no chat template; give text or ids, or a model that was trained to chat")
    for number, message in enumerate(messages):
        if set(message) != {"role", "content"} or not all(isinstance(text, str) for text in message.values()):
            raise ChatError(f"message {number}: wanted role and content, both text, got {dict(message)!r}")
        if not all(map(is_unicode, message.values())):
            raise ChatError(f"message {number}: is no valid text (UTF-8, no lone surrogates); got {dict(message)!r}")
    try:
        plain = [dict(each) for each in messages]
        return str(
            tokenizer.apply_chat_template(
                plain, add_generation_prompt=not continued, continue_final_message=continued, tokenize=False
            )
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise ChatError(f"the chat template of {denoiser.name} refuses this conversation: {error}") from None
