"""A decoding run as a file: read, checked, changed, written back."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fdllm
from fdllm.cli.config_docs import config_markdown
from fdllm.component import SettingError
from fdllm.config import DecodingConfig, GenerateTable, ModelTable
from fdllm.config_files import read_value
from fdllm.models.spec import Spec
from fdllm.policies.threshold import Threshold

TOML = """
[model]
path = "tests/data/families/llada"
eos_ids = [1, 2]
[generate]
max_new_tokens = 16
top_p = 0.9
[cache]
name = "refresh-interval"
interval = 3
[policy]
name = "top-k"
steps = 8
spacing = "timesteps"
eps = 1e-3
"""
YAML = """
model: {path: tests/data/families/llada, eos_ids: [1, 2]}
generate:
  max_new_tokens: 16
  top_p: 0.9
cache: {name: refresh-interval, interval: 3}
policy: {name: top-k, steps: 8, spacing: timesteps, eps: 1e-3}
"""


def test_one_config_in_three_formats(tmp_path):
    tables = tomllib.loads(TOML)
    texts = {"run.toml": TOML, "run.yaml": YAML, "run.yml": YAML, "run.json": json.dumps(tables)}
    read = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        read.append(DecodingConfig.from_file(tmp_path / name))
    assert all(config == DecodingConfig.from_dict(tables) for config in read)
    assert read[0].policy.eps == 1e-3 and read[0].model.eos_ids == (1, 2)


def test_tables_come_back(tmp_path):
    config = DecodingConfig.from_dict(tomllib.loads(TOML))
    tables = config.to_dict()
    assert tables == {**tomllib.loads(TOML), "schedule": {"name": "blocks"}}
    assert DecodingConfig.from_dict(json.loads(json.dumps(tables))) == config
    assert DecodingConfig.from_dict(DecodingConfig().to_dict()) == DecodingConfig()


def test_an_empty_file_is_the_built_in_model(tmp_path):
    for name in ("run.toml", "run.yaml"):
        (tmp_path / name).write_text("")
        assert DecodingConfig.from_file(tmp_path / name) == DecodingConfig()


WRONG = [
    ({"policy": {"name": "threshold", "treshold": 0.9}}, "policy.treshold: no such key; did you mean 'threshold'?"),
    ({"generate": {"max_tokens": 3}}, "generate.max_tokens: no such key; did you mean 'max_new_tokens'?"),
    ({"cache": {"name": "dual", "size": 3}}, "cache.size: no such key; known keys: none"),
    ({"polcy": {"name": "threshold"}}, "polcy: no such key; did you mean 'policy'?"),
    ({"policy": {"name": "treshold"}}, "no policy named 'treshold'; did you mean 'threshold'? Installed: "),
    ({"policy": {"k": 2}}, "policy.k: no such key; known keys: threshold"),
    ({"attention": {}}, "attention: wanted a name, a table with 'name', or an AttentionBackend, got {}"),
    ({"cache": 3}, "cache: wanted a name"),
    ({"generate": 3}, "generate: wanted a table, got 3"),
    ({"generate": {"max_new_tokens": "64"}}, "generate.max_new_tokens: Input should be a valid integer, got '64'"),
    ({"generate": {"max_new_tokens": True}}, "generate.max_new_tokens: Input should be a valid integer, got True"),
    ({"generate": {"max_new_tokens": 0}}, "generate.max_new_tokens: Input should be greater than or equal to 1, got 0"),
    ({"generate": {"temperature": -1.0}}, "generate.temperature: Input should be greater than or equal to 0"),
    ({"generate": {"temperature": float("inf")}}, "generate.temperature: Input should be a finite number"),
    ({"generate": {"temperature": 1e-40}}, "generate.temperature: wanted 0, or at least 0.001, got 1e-40; 0 takes"),
    (
        {"temperature": {"name": "linear", "end": 1e-40}},
        "temperature.end: Input should be greater than or equal to 0.001",
    ),
    ({"generate": {"top_p": 0.0}}, "generate.top_p: Input should be greater than 0"),
    ({"generate": {"seed": -1}}, "generate.seed: Input should be greater than or equal to 0"),
    ({"policy": {"name": "threshold", "threshold": 1.5}}, "policy.threshold: Input should be less than or equal to 1"),
    ({"policy": {"name": "top-k", "k": 2, "steps": 8}}, "policy: k and steps exclude each other"),
    ({"model": {"dtype": "float8"}}, "model.dtype: Input should be 'auto', 'float32'"),
    ({"model": {"eos_ids": ["a"]}}, "model.eos_ids.0: Input should be a valid integer, got 'a'"),
    ({"model": {"eos_ids": "a"}}, "model.eos_ids: wanted a list, got 'a'"),
    ({"model": {"eos_ids": True}}, "model.eos_ids.0: Input should be a valid integer, got True"),
    (
        {"generate": {"block_length": 8}, "schedule": {"name": "blocks", "block_length": 16}},
        "generate.block_length: 8 is not schedule.block_length = 16; drop one",
    ),
]


@pytest.mark.parametrize(("tables", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_wrong_tables(tables, message):
    with pytest.raises(SettingError) as error:
        DecodingConfig.from_dict(tables)
    assert message in str(error.value)


def test_every_finding_is_told_at_once():
    with pytest.raises(SettingError) as error:
        DecodingConfig.from_dict({"generate": {"max_new_tokens": 0, "top_k": "3"}, "cache": "dul"})
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "generate.max_new_tokens",
        "generate.top_k",
        "cache",
    ]


BROKEN = [
    ("run.toml", "[generate]\nseed = \n", r"run.toml:2: broken TOML"),
    ("run.toml", "[generate]\nseed = 1\nseed = 2\n", r"run.toml:3: broken TOML: Cannot overwrite a value"),
    ("run.toml", "[generate", r"run.toml:1: broken TOML"),
    ("run.yaml", "generate:\n  seed: 1\n  seed: 2\n", r"run.yaml:3: broken YAML: key 'seed' is given twice"),
    ("run.yaml", "generate: [1\nseed: 2", r"run.yaml:2: broken YAML"),
    ("run.yaml", "- 1\n- 2\n", r"run.yaml: wanted tables such as \[generate\], got list"),
    ("run.json", '{"generate": {\n"seed": }}', r"run.json:2: broken JSON: Expecting value, column 9"),
    ("run.json", '{"cache": "dual", "cache": "none"}', r"run.json: key 'cache' is given twice"),
    ("run.yaml", "? [1]\n: 2", r"run.yaml:1: broken YAML: a key must be a name, not a list or a table"),
    ("run.yaml", "[" * 5000, r"run.yaml: nested too deeply"),
    ("run.toml", "a = " + "[" * 5000, r"run.toml: nested too deeply"),
    ("run.json", "[" * 100_000, r"run.json: nested too deeply"),
    ("run.ini", "[generate]", r"run.ini: cannot tell its format by its name; use one of .toml, .yaml"),
    ("run.toml", b"\xff\xfe", r"run.toml: not UTF-8 text at byte 0"),
    ("run.toml", "[policy]\nname='threshold'\ntreshold=1\n", r"run.toml: policy.treshold: no such key; did you mean"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_broken_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingError, match=message):
        DecodingConfig.from_file(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(SettingError, match=r"absent.toml: cannot be read: No such file"):
        DecodingConfig.from_file(tmp_path / "absent.toml")


def test_overrides():
    config = DecodingConfig.from_dict({"policy": {"name": "threshold", "threshold": 0.7}, "generate": {"top_p": 0.5}})
    changed = config.with_overrides(["policy.threshold=0.8", "generate.top_p=null", "model.path=a/b", "cache=dual"])
    assert changed.policy == Threshold(threshold=0.8)
    assert changed.generate.top_p is None and changed.model.path == "a/b"
    assert changed.to_dict()["cache"] == {"name": "dual"}
    assert config.policy.threshold == 0.7


@pytest.mark.parametrize("given", [["policy.name=top-k", "policy.k=2"], ["policy.k=2", "policy=top-k"]])
def test_naming_another_component_drops_the_keys_of_the_one_before(given):
    config = DecodingConfig.from_dict({"policy": {"name": "threshold", "threshold": 0.7}})
    assert config.with_overrides(given).to_dict()["policy"] == {"name": "top-k", "k": 2}
    assert config.with_overrides(["policy=threshold"]) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.treshold=1", "policy.treshold: no such key; did you mean 'threshold'?"),
        ("polcy.threshold=1", "polcy: no such key; did you mean 'policy'?"),
        ("seed=3", "'seed=3': wanted table.key=value, such as policy.threshold=0.8"),
        ("generate.seed", "'generate.seed': wanted table.key=value"),
        ("generate.seed=x", "generate.seed: Input should be a valid integer, got 'x'"),
        ("policy=nothing", "no policy named 'nothing'"),
        ("policy.threshold=" + "[" * 100_000, "policy.threshold: nested too deeply"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(SettingError) as error:
        DecodingConfig().with_overrides([override])
    assert message in str(error.value)


values = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | st.none(),
    lambda inner: st.lists(inner, max_size=3),
)


@given(values)
def test_a_value_on_the_command_line_reads_as_in_json(value):
    assert read_value(json.dumps(value)) == value


@given(st.text())
def test_any_text_is_a_value(text):
    read_value(text)
    assert read_value(json.dumps(text)) == text


def test_a_line_break_starts_no_second_key():
    assert read_value("1\nother = 2") == "1\nother = 2"


def test_the_model_table_is_the_spec():
    assert set(ModelTable.model_fields) - {"path", "dtype", "device", "tp", "family"} == set(Spec.model_fields)


def test_keys_without_a_name_belong_to_the_default_in_a_file_as_on_the_command_line():
    config = DecodingConfig.from_dict({"policy": {"threshold": 0.5}, "schedule": {"block_length": 8}, "cache": {}})
    assert config.policy == Threshold(threshold=0.5)
    assert config == DecodingConfig().with_overrides(["policy.threshold=0.5", "schedule.block_length=8", "cache=none"])


def test_one_eos_id_needs_no_list():
    assert DecodingConfig.from_dict({"model": {"eos_ids": 3}}).model.eos_ids == (3,)


def test_every_fixed_key_is_described():
    for table in (ModelTable, GenerateTable):
        assert all(field.description for field in table.model_fields.values())


def test_the_page_is_what_the_components_say():
    page = (Path(__file__).parent.parent / "docs" / "config.md").read_text()
    assert page == config_markdown(), "docs/config.md is older than the components: run `make docs`"


def test_a_file_compiles_to_what_the_arguments_do(tmp_path, data):
    path = tmp_path / "run.toml"
    path.write_text(
        f"model.path = {json.dumps(str(data / 'families' / 'llada'))}\n"
        "generate = {max_new_tokens = 16, block_length = 8, temperature = 0.5, top_k = 9, stop_at_eos = false}\n"
        "cache.name = 'dual'\npolicy = {name = 'threshold', threshold = 0.5}\nattention.name = 'eager'\n"
    )
    model = fdllm.load(str(data / "families" / "llada"))
    by_arguments = fdllm.compile(
        model,
        cache="dual",
        policy={"name": "threshold", "threshold": 0.5},
        attention="eager",
        max_new_tokens=16,
        block_length=8,
        temperature=0.5,
        top_k=9,
        stop_at_eos=False,
    )
    by_file = fdllm.DecodingConfig.from_file(path).compile()
    assert by_file.record() == by_arguments.record()
    assert by_file.generate([[5, 6]], seed=3).completions == by_arguments.generate([[5, 6]], seed=3).completions


def test_unset_keys_are_the_models_own(data):
    model = fdllm.load(str(data / "families" / "llada"), block_length=8, attention="eager")
    decoder = DecodingConfig.from_dict({"generate": {"max_new_tokens": 16}}).compile(model)
    assert decoder.record()["schedule"] == "Blocks(block_length=8)"
    assert decoder.record()["attention"] == "Eager()"
