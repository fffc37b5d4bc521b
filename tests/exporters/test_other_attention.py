from __future__ import annotations

import inspect
import sys

import pytest
import torch

from examples.other_attention.compare import main
from examples.other_attention.model import tokens
from linglos_deploy.exporters.decompositions.records import read_attention
from linglos_deploy.exporters.decompositions.rewrite import Request, rewrite_attention


def test_the_example_is_rewritten_and_agrees_with_pytorch(tmp_path, capsys):
    assert main([str(tmp_path), "--size", "48", "--rounds", "1"]) < 1e-4
    printed = capsys.readouterr().out
    assert printed.count("reassociated") == 4
    assert "1 rounds of a small model" in printed
    assert {record.path for record in read_attention(tmp_path / "auto.onnx")} == {
        f"blocks.{index}.attention" for index in range(4)
    }


def test_the_example_refuses_to_time_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--rounds", "0"])
    assert "at least 1 was expected" in capsys.readouterr().err


def test_few_positions_take_the_pooled_form():
    model = tokens()
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(image)
        records = rewrite_attention(model, {"image": image}, Request("auto"))
        torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=1e-4)
    assert {record.form for record in records} == {"pooled"}


def test_the_example_does_not_import_this_package():
    assert "import linglos" not in inspect.getsource(sys.modules["examples.other_attention.model"])
