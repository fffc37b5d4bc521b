from __future__ import annotations

import pytest

from linglos_deploy.choices import Method
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization.scheme import QuantScheme


def test_a_scheme_survives_json() -> None:
    scheme = QuantScheme(method=Method.PERCENTILE, percentile=99.9, weight_bits=7, exclude=("head/.*",))
    assert from_json(QuantScheme, to_json(scheme), source="test") == scheme


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 4}, "8 bits, or 7"),
        ({"percentile": 0.0}, "percentile"),
        ({"percentile": 101.0}, "percentile"),
        ({"exclude": ("(",)}, "regular expression"),
        ({"include": ("*",)}, "regular expression"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QuantScheme(**options)  # type: ignore[arg-type]


def test_patterns_match_whole_names_and_excluding_wins() -> None:
    scheme = QuantScheme(include=(r"stages\..*",), exclude=(r"stages\.3\..*",))

    assert scheme.pattern_against("stages.0.mlp/Conv") is None
    assert "excluded by" in (scheme.pattern_against("stages.3.mlp/Conv") or "")
    assert "no pattern to include" in (scheme.pattern_against("my.stages.0/Conv") or "")


@pytest.mark.parametrize(("bits", "limit"), [(8, 127), (7, 63)])
def test_the_largest_weight_is_symmetric(bits: int, limit: int) -> None:
    assert QuantScheme(weight_bits=bits).weight_limit == limit
