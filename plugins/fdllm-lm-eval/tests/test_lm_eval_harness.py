"""The harness over the built-in model: its texts, likelihoods and records, in Python and on its command line."""

import json
import os
import shutil
import subprocess
import sys
from itertools import islice
from typing import ClassVar

import pytest
import torch
from fdllm_lm_eval import wishes
from fdllm_lm_eval.likelihood import is_greedy, log_likelihood
from fdllm_lm_eval.model import FdllmLM
from fdllm_lm_eval.settings import Options
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import fdllm
from fdllm.models.files import BUILT_IN
from fdllm.policies.base import UnmaskingPolicy
from fdllm.testing import random_model
from fdllm.tiny.problems import answer_of, problems
from fdllm.types import Mask, Probability

ASKED = list(islice(problems("lm-eval", "test"), 5))
HOW = {"cache": "dual", "policy": {"name": "threshold", "threshold": 0.9}, "max_new_tokens": 96}
ARGS = {"path": "tiny", "device": "cpu", "cache": "dual", "threshold": 0.9, "max_new_tokens": 96}

GENERATE = """
task: gsm_mini
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["Question:"], do_sample: false}}
filter_list:
  - name: number
    filter: [{{function: regex, regex_pattern: "#### ?(\\\\d+)"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match}}]
"""
CHOOSE = """
task: gsm_mini_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 1
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two task files over one local data set; the right choice is the second one."""
    path = tmp_path_factory.mktemp("tasks")
    lines = []
    for problem in ASKED:
        wrong = problem.text.replace(f"#### {problem.answer}", f"#### {problem.answer + 1}")
        choices = [wrong, problem.text, " Ben has 3 plums."]
        lines.append(json.dumps({"question": problem.question, "answer": str(problem.answer), "choices": choices}))
    (path / "data.jsonl").write_text("\n".join(lines))
    for name, text in (("generate", GENERATE), ("choose", CHOOSE)):
        (path / f"{name}.yaml").write_text(text.format(file=path / "data.jsonl", cache=path / "cache"))
    return path


@pytest.fixture(scope="module")
def model():
    return FdllmLM(**ARGS, batch_size=4, mc_samples=8)


def request(kind, *arguments):
    return Instance(kind, {}, arguments, 0)


def texts(model, prompts, **gen_kwargs):
    return model.generate_until([request("generate_until", p, gen_kwargs) for p in prompts], disable_tqdm=True)


def evaluated(folder, task, **more):
    out = simple_evaluate(
        tasks=[task],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **{"model": "fdllm", **more},
    )
    return out["results"][task], out["samples"][task], out["config"]


# texts


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_task_scores_what_fdllm_decodes(folder, batch_size):
    result, samples, config = evaluated(folder, "gsm_mini", model_args=ARGS, batch_size=batch_size)
    decoder = fdllm.compile(fdllm.load("tiny", device="cpu"), **HOW)
    out = [decoder.generate(problem.question) for problem in ASKED]
    right = [answer_of(each.text[0]) == problem.answer for each, problem in zip(out, ASKED, strict=True)]
    assert [sample["resps"][0][0] for sample in samples] == [each.text[0] for each in out]
    assert result["exact_match,number"] == sum(right) / len(right) and sum(right) > 0
    (spent,) = config["fdllm"]["generation"]
    assert spent["record"] == decoder.record()
    assert spent["texts"] == 5 and spent["row_nfe"] == sum(each.nfe for each in out)
    assert spent["nfe"] == spent["row_nfe"] if batch_size == 1 else spent["nfe"] < spent["row_nfe"]
    assert spent["visible_tokens"] == sum(each.stats.visible_tokens for each in out)
    assert spent["tokens_per_second"] == spent["visible_tokens"] / spent["decode_seconds"]
    assert config["fdllm"]["settings"]["cache"] == {"name": "dual"}


def test_texts_come_in_the_order_of_their_requests_whatever_each_wishes(model):
    prompts = [problem.question for problem in ASKED]
    wished = [{"until": []}, {"until": ["####"]}, {"until": [], "max_gen_toks": 40}, {"until": ["4"]}, {"until": []}]
    asked = [request("generate_until", *each) for each in zip(prompts, wished, strict=True)]
    alone = [texts(model, [prompt], **wish)[0] for prompt, wish in zip(prompts, wished, strict=True)]
    assert model.generate_until(asked, disable_tqdm=True) == alone
    assert len({*alone}) == 5 and "####" in alone[0] and "####" not in alone[1] and "4" not in alone[3]


def test_a_length_is_filled_up_to_blocks_and_the_text_cut_to_it(model):
    (short,) = texts(model, [ASKED[0].question], max_gen_toks=40)
    decoder, _ = model.decoders.of(wishes.read({"max_gen_toks": 40})[0])
    assert decoder.plan.max_new_tokens == 64
    (ids,) = decoder.generate([ASKED[0].question]).completions
    (few,) = texts(model, [ASKED[0].question], max_gen_toks=7)
    assert short == model.tokenizer.decode(ids[:40])
    assert len(model.tokenizer(few).input_ids) <= 7 and few


def test_sampling_depends_on_the_request_and_not_on_its_batch(model):
    prompts = [ASKED[0].question] * 3
    wish = {"do_sample": True, "temperature": 2.0, "max_gen_toks": 32}
    together = texts(model, prompts, **wish)
    assert len({*together}) > 1
    one = FdllmLM(**ARGS, batch_size=1)
    assert texts(one, prompts, **wish) == together
    assert texts(model, prompts, do_sample=False, max_gen_toks=32) == texts(model, prompts[:1], max_gen_toks=32) * 3


def test_a_task_without_sampling_stands_above_a_schedule_of_temperatures(model):
    cooling = FdllmLM(**ARGS, **{"temperature.name": "linear", "temperature.start": 30.0, "temperature.end": 20.0})
    prompts = [ASKED[0].question]
    assert texts(cooling, prompts, do_sample=False) == texts(model, prompts) != texts(cooling, prompts)


def test_special_tokens_end_a_text_and_are_not_in_it(model):
    ids = model.tok_encode(" 1 + 1<|pad|> = 2<|endoftext|>")
    assert 3 in ids and model._text(ids, ()) == " 1 + 1 = 2"
    assert model._text(ids, ("<|pad|>",)) == " 1 + 1"


def test_a_prompt_too_long_loses_its_begin_with_a_warning(caplog):
    model = FdllmLM(path="tiny", device="cpu", context=100, max_new_tokens=32)
    long = " ".join(problem.question for problem in ASKED)
    ids = model.tok_encode(long)
    with caplog.at_level("WARNING"):
        (text,) = texts(model, [long])
    assert f"fdllm: a prompt is {len(ids) - 68} tokens too long; its begin is dropped" in caplog.text
    assert text == fdllm.compile(model.model, max_new_tokens=32).generate([ids[-68:]]).text[0]
    with pytest.raises(
        ValueError, match="max_gen_toks: 96 tokens leave no room for a prompt in .* context of 96; ask for"
    ):
        texts(FdllmLM(path="tiny", device="cpu", context=96, max_new_tokens=32), ["x"], max_gen_toks=96)


class Whole(UnmaskingPolicy):
    """A policy that reads filled slots, so its windows must be of one length in a batch."""

    reads: ClassVar = "window"

    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        return masked & (confidence >= 0.5)


def test_prompts_that_cannot_share_a_batch_are_decoded_apart():
    model = random_model(0, pattern="block-causal")
    prompts = {3: [1] * 5, 4: [1] * 9, 7: [1] * 6, 9: [1] * 4, 11: [1] * 8}
    anyhow, picky = (fdllm.compile(model, policy=policy, max_new_tokens=8) for policy in ("threshold", Whole()))
    assert list(wishes.batches(anyhow, prompts, 2)) == [[4, 11], [7, 3], [9]]
    # the model's blocks have four slots: 4 and 3 begin one slot into a block, 11 and 9 at its begin
    assert list(wishes.batches(picky, prompts, 2)) == [[4, 3], [11, 9], [7]]


def test_answers_are_kept_as_they_come_for_the_next_run(tmp_path):
    asked = [request("generate_until", ASKED[0].question, {"until": ["####"]})]
    scored, whole = [request("loglikelihood", ASKED[0].question, " 4")], [request("loglikelihood_rolling", " 4")]
    kept = CachingLM(FdllmLM(**ARGS), str(tmp_path / "kept.db"))
    # the model alone, whose answers the store gets from nobody else
    found = kept.lm.generate_until(asked), kept.lm.loglikelihood(scored), kept.lm.loglikelihood_rolling(whole)
    assert len(kept.dbdict) == 3
    assert found == (kept.generate_until(asked), kept.loglikelihood(scored), kept.loglikelihood_rolling(whole))
    assert kept.decoders.report()[0]["texts"] == 1 and kept.get_model_info()["fdllm"]["scored"] == 2
    kept.dbdict.close()


def test_nothing_is_decoded_before_all_is_understood():
    asked = [request("generate_until", "1", {}), request("generate_until", "1", {"max_gen_toks": 5000})]
    fresh = FdllmLM(**ARGS)
    with pytest.raises(ValueError, match="max_new_tokens: 5024 slots are over the model's context of 1024; lower it"):
        fresh.generate_until(asked, disable_tqdm=True)
    assert [spent["texts"] for spent in fresh.decoders.report()] == [0]


# likelihoods


def test_a_multiple_choice_task_takes_the_likeliest_answer(folder, model):
    result, samples, config = evaluated(folder, "gsm_mini_choice", model=model)
    lm = fdllm.load("tiny", device="cpu")
    for sample, problem in zip(samples, ASKED, strict=True):
        prefix, answer = (lm.tokenizer(text).input_ids for text in (problem.question, problem.text))
        assert lm.tokenizer(problem.question + problem.text).input_ids == prefix + answer
        score, greedy = sample["filtered_resps"][1]
        assert float(score) == pytest.approx(log_likelihood(lm, prefix, answer, Options(mc_samples=8), 0))
        assert str(greedy) == str(is_greedy(lm, prefix, answer))
    assert result["acc,none"] >= 0.8
    assert config["fdllm"]["options"] == {"add_bos": False, "mc_samples": 8, "mc_batch": 16}
    assert config["fdllm"]["scored"] == 15


def test_whole_texts_are_scored_in_windows(model):
    ids = model.tok_encode(ASKED[0].question)[:20]
    text = model.tokenizer.decode(ids)
    small = FdllmLM(path="tiny", device="cpu", context=9, max_new_tokens=4, block_length=4, mc_samples=8)
    (found,) = small.loglikelihood_rolling([request("loglikelihood_rolling", text)], disable_tqdm=True)
    how, (start,) = Options(mc_samples=8), [model.prefix_token_id]
    assert start == model.model.spec.eos_ids[0]
    # eight tokens a window, each after one token, the last window filled up with what stands before it
    parts = [([start], ids[:8]), (ids[7:8], ids[8:16]), (ids[11:16], ids[16:])]
    assert found == pytest.approx(sum(log_likelihood(small.model, *part, how, 0) for part in parts))
    (whole,) = model.loglikelihood_rolling([request("loglikelihood_rolling", text)], disable_tqdm=True)
    assert whole == pytest.approx(log_likelihood(model.model, [start], ids, how, 0))


def test_a_text_without_context_needs_a_token_before_it():
    model = FdllmLM(path="tiny", device="cpu", eos_ids=[], max_new_tokens=4)
    with pytest.raises(ValueError, match="model.eos_ids: tiny names no token that ends a text; give it"):
        model.loglikelihood([request("loglikelihood", "", " 4")], disable_tqdm=True)


def test_a_context_may_be_empty_or_too_long(model, caplog):
    score = model.loglikelihood([request("loglikelihood", "", " 4")], disable_tqdm=True)
    (ids,) = [model.tok_encode(" 4")]
    assert score[0][0] == pytest.approx(log_likelihood(model.model, [0], ids, model.options, 0))
    small = FdllmLM(path="tiny", device="cpu", context=8, max_new_tokens=4, block_length=4)
    long = model.tok_encode(ASKED[0].question)
    (found, _), *_ = small.loglikelihood([request("loglikelihood", ASKED[0].question, " 4")], disable_tqdm=True)
    assert "its begin is dropped" in caplog.text
    assert found == pytest.approx(log_likelihood(small.model, long[-(8 - len(ids)) :], ids, small.options, 0))
    with pytest.raises(
        ValueError, match="loglikelihood: .* tokens leave no room for a prompt in the model's context of 8"
    ):
        small.loglikelihood([request("loglikelihood", "a", ASKED[0].text)], disable_tqdm=True)


# conversations

TEMPLATE = (
    "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}{% if not loop.last %} / {% endif %}{% endfor %}"
    "{% if add_generation_prompt %} / assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    path = tmp_path_factory.mktemp("chat") / "tiny"
    shutil.copytree(BUILT_IN["tiny"], path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


def test_conversations_go_through_the_template_of_the_model(folder, chatty):
    args = {**ARGS, "path": str(chatty)}
    _, samples, _ = evaluated(folder, "gsm_mini", model_args=args, apply_chat_template=True, system_instruction="Add.")
    decoder = fdllm.compile(fdllm.load(str(chatty), device="cpu"), **HOW)
    for sample, problem in zip(samples, ASKED, strict=True):
        told = [{"role": "system", "content": "Add."}, {"role": "user", "content": problem.question}]
        assert sample["resps"][0][0] == decoder.generate([told]).text[0]
        assert sample["arguments"][0][0].startswith("<|endoftext|>system: Add. / <|endoftext|>user: ")


def test_an_answer_begun_goes_on(chatty):
    model = FdllmLM(path=str(chatty), device="cpu")
    told = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "It is"}]
    assert model.apply_chat_template(told, add_generation_prompt=False).endswith("assistant: It is")
    assert model.apply_chat_template(told[:1]).endswith("assistant:")
    assert model.chat_template(True) == TEMPLATE and "/" not in model.tokenizer_name


def test_a_begin_of_text_is_put_before_prompts_on_wish(chatty, tmp_path):
    path = tmp_path / "tiny"
    shutil.copytree(chatty, path)
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bos_token": "<|pad|>"}))
    plain, begun = (FdllmLM(path=str(path), device="cpu", add_bos=add) for add in (False, True))
    ids = plain.tok_encode("1+1=")
    assert begun.prefix_token_id == 3 and begun.tok_encode("1+1=") == begun.tok_encode("<|pad|>1+1=") == [3, *ids]
    assert begun.tok_encode("1+1=", add_special_tokens=False) == ids
    adds = Tokenizer.from_file(str(path / "tokenizer.json"))
    adds.post_processor = TemplateProcessing(single="<|pad|> $A", special_tokens=[("<|pad|>", 3)])
    adds.save(str(path / "tokenizer.json"))
    for add in (False, True):
        model = FdllmLM(path=str(path), device="cpu", add_bos=add)
        assert model.tok_encode("1+1=") == model.tok_encode("<|pad|>1+1=") == [3, *ids]
    with pytest.raises(ValueError, match=r"model_args.add_bos: the tokenizer of .* has no begin of text; drop it"):
        FdllmLM(path=str(chatty), device="cpu", add_bos=True)


def test_a_model_without_a_template_refuses_conversations(folder, model):
    with pytest.raises(ValueError, match="tiny has no chat template; give text or ids, or a model that was trained"):
        evaluated(folder, "gsm_mini", model=model, apply_chat_template=True)


# the command line


def command(folder, *arguments, model_args):
    offline = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    program = [os.path.join(os.path.dirname(sys.executable), "fdllm-lm-eval"), "--model", "fdllm"]
    return subprocess.run(
        [*program, "--include_path", str(folder), "--model_args", model_args, *arguments],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
    )


def test_the_command_line(folder, tmp_path):
    args = "path=tiny,cache=dual,policy=threshold,threshold=0.9,max_new_tokens=96"
    asked = [
        "--tasks",
        "gsm_mini",
        "--batch_size",
        "4",
        "--limit",
        "2",
        "--log_samples",
        "--output_path",
        str(tmp_path),
    ]
    done = command(folder, *asked, model_args=args)
    assert done.returncode == 0, done.stderr
    assert "|gsm_mini|" in done.stdout
    (file,) = tmp_path.rglob("results_*.json")
    written = json.loads(file.read_text())
    decoder = fdllm.compile(fdllm.load("tiny"), **HOW)
    out = decoder.generate([problem.question for problem in ASKED[:2]])
    right = [answer_of(text) == problem.answer for text, problem in zip(out.text, ASKED, strict=False)]
    assert written["results"]["gsm_mini"]["exact_match,number"] == sum(right) / 2
    (spent,) = written["config"]["fdllm"]["generation"]
    assert spent["nfe"] == out.nfe and spent["record"]["policy"] == "Threshold(threshold=0.9)"
    told = f"fdllm: 2 texts, {out.stats.visible_tokens} tokens, {out.nfe} forwards, {sum(out.row_nfe) / 2:.1f} a text, "
    assert f"{told}{spent['tokens_per_second']:.1f} tokens/s" in done.stderr
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    assert [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()] == out.text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("path=tiny,treshold=0.9", "fdllm-lm-eval: model_args.treshold: no such key; did you mean 'threshold'?"),
        ("path=tiny,policy=bold", "fdllm-lm-eval: policy: no policy named 'bold'. Installed: "),
    ],
)
def test_wrong_input_is_one_message(folder, args, message):
    done = command(folder, "--tasks", "gsm_mini", model_args=args)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(message)]


def test_torch_draws_nothing(model):
    state = torch.get_rng_state()
    texts(model, [ASKED[0].question], temperature=1.0, max_gen_toks=32)
    model.loglikelihood([request("loglikelihood", ASKED[0].question, " 25 pens and 4")], disable_tqdm=True)
    assert torch.equal(torch.get_rng_state(), state)
