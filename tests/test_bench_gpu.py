"""The device benchmark as a program: it runs without a GPU, and times nothing that is wrong."""

import json
import sys

import pytest
import torch

from fdllm.bench.gpu import __main__ as program
from fdllm.bench.gpu import checks


@pytest.fixture
def called(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fdllm.bench.gpu", *arguments])
        code = program.main()
        return code, *capsys.readouterr()

    return call


def test_every_line_of_it_runs_on_a_cpu(called, tmp_path):
    code, printed, _ = called("--device", "cpu", "--quick", "--out", str(tmp_path / "found.json"))
    assert code == 0
    report = json.loads((tmp_path / "found.json").read_text())
    assert json.loads(printed) == report
    assert "no measurement" in report["note"]
    assert report["checks"] == list(checks.CHECKS)
    assert [row["what"] for row in report["storing"]] == ["torch", "store_kv in triton"]
    assert all(row[how]["median"] > 0 for row in report["storing"] for how in ("called_ms", "replayed_ms"))
    for row in report["decode"]["rows"]:
        assert row["reuse_ms"]["median"] > 0
        assert row["reads"] == (0 if row["policy"]["name"] == "top-k" else row["nfe"])
        assert row["replays"] == (row["nfe"] if row["execution"] == "static" else 0)


def test_it_times_nothing_that_is_wrong(called, monkeypatch):
    def wrong(device):
        raise AssertionError(f"attention: off on {device}")

    monkeypatch.setattr(program, "CHECKS", {"attention": wrong})
    code, printed, told = called("--device", "cpu", "--quick")
    assert code == 1 and not printed
    assert "1 checks failed, so nothing is timed:\n  attention: off on cpu" in told


def test_without_a_device_it_says_so(called, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, told = called()
    assert code == 2 and "wanted a CUDA device, found none" in told
    code, _, told = called("--device", "cpu")
    assert code == 2 and "only as a test of the program: TRITON_INTERPRET=1 and --quick" in told
