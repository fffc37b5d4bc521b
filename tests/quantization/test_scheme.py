from __future__ import annotations

import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization.scheme import QuantScheme


def test_a_scheme_survives_json() -> None:
    scheme = QuantScheme(method="percentile", percentile=99.9, weight_bits=7, exclude=("head/.*",))
    assert from_json(QuantScheme, to_json(scheme), source="test") == scheme


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 4}, "8 bits, or 7"),
        ({"percentile": 0.0}, "percentile"),
        ({"percentile": 101.0}, "percentile"),
        ({"exclude": ("(",)}, "regular expression"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QuantScheme(**options)  # type: ignore[arg-type]


def test_patterns_match_whole_names() -> None:
    scheme = QuantScheme(exclude=(r"stages\.3\..*",))

    assert scheme.pattern_against("stages.0.mlp/Conv") is None
    assert "excluded by" in (scheme.pattern_against("stages.3.mlp/Conv") or "")
    assert scheme.pattern_against("my.stages.3.mlp/Conv") is None


def test_the_type_of_the_floating_parts_is_that_of_the_precision() -> None:
    assert QuantScheme(floating=Precision.INT8_FP16).floating is Precision.FP16
    assert QuantScheme(floating=Precision.INT8).floating is Precision.FP32
