"""Conversations as prompts: the tokenizer's own chat template, in Python and on the command line."""

import json
import subprocess
import sys

import pytest
from test_families import made

import fdllm
from fdllm.cli.main import run
from fdllm.prompts import PromptError

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ASKED = [{"role": "user", "content": "hello"}]
RENDERED = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, _ = made(tmp_path_factory.mktemp("chat"), "TraDo-4B-Instruct")
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture(scope="module")
def decoder(folder):
    return fdllm.compile(fdllm.load(str(folder)), max_new_tokens=8)


def test_a_conversation_is_rendered_by_the_template_of_the_model(decoder):
    tokenizer = decoder.model.tokenizer
    ids = tokenizer(RENDERED, add_special_tokens=False).input_ids
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") in ids
    assert decoder.ids_of(ASKED) == [ids]
    longer = [{"role": "system", "content": "t"}, *ASKED]
    assert decoder.ids_of([ASKED, longer])[0] == ids
    assert decoder.ids_of([ASKED, longer])[1][: len(ids)] != ids
    assert decoder.generate(ASKED).tokens.tolist() == decoder.generate([ids]).tokens.tolist()
    *_, last = decoder.stream(ASKED)
    assert last.generation.tokens.tolist() == decoder.generate(ASKED).tokens.tolist()


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "user"}], "message 0: wanted role and content, both text, got {'role': 'user'}"),
        ([*ASKED, {"role": "user", "content": 3}], "message 1: wanted role and content, both text"),
        ([{"role": "user", "content": "\ud800"}], "message 0: is no valid text"),
        ([{"role": "tool", "content": "x"}], "the chat template of .* refuses this conversation: no tools here"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_refused(decoder, messages, why):
    with pytest.raises(PromptError, match=f"prompts: {why}"):
        decoder.generate(messages)


def test_a_model_without_a_template_refuses(capsys):
    with pytest.raises(PromptError, match="prompts: tiny has no chat template; give text or ids, or a model that was"):
        fdllm.compile(fdllm.load("tiny"), max_new_tokens=8).generate(ASKED)
    assert run(["generate", "--chat", "--prompt", "hi"]) == 2
    assert "--prompt: tiny has no chat template" in capsys.readouterr().err
    assert run(["chat"]) == 2


def test_chat_on_the_command_line(folder, tmp_path, capsys):
    short = ["--model", str(folder), "--set", "generate.max_new_tokens=8", "--json"]
    assert run(["generate", *short, "--chat", "--prompt", "hello"]) == 0
    chatted = json.loads(capsys.readouterr().out)
    assert chatted["record"]["chat"] == "True"
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"messages": ASKED}) + "\n" + json.dumps({"prompt": "hello"}) + "\n")
    assert run(["generate", *short, "--prompts", str(file)]) == 0
    conversation, text = map(json.loads, capsys.readouterr().out.splitlines())
    assert conversation["tokens"] == chatted["tokens"] != text["tokens"]


def test_a_conversation_of_two_turns_in_a_pipe(folder, decoder):
    short = ["--model", str(folder), "--set", "generate.max_new_tokens=8", "--system", "t"]
    command = [sys.executable, "-m", "fdllm.cli.main", "chat", *short]
    done = subprocess.run(command, input="hello\nhell\n", capture_output=True, text=True, check=True)
    messages, expected = [{"role": "system", "content": "t"}], []
    for said in ("hello", "hell"):
        messages.append({"role": "user", "content": said})
        (answer,) = decoder.generate(messages).text
        messages.append({"role": "assistant", "content": answer})
        expected.append(answer.strip())
    assert done.stdout.rstrip("\n") == "\n".join(expected).rstrip("\n")
