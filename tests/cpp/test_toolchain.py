from __future__ import annotations

import pytest

from tests.cpp.toolchain import Missing, find_program, missing_headers, missing_programs, require

MISSING = [Missing("cmake", "apt-get install cmake"), Missing("g++", "apt-get install g++")]


def test_without_a_compiler_the_tests_say_what_is_missing_and_how_to_get_it() -> None:
    with pytest.raises(pytest.skip.Exception) as skipped:
        require(MISSING, {})
    assert "cmake is missing, get it with: apt-get install cmake" in str(skipped.value)
    assert "g++ is missing" in str(skipped.value)
    require([], {"CI": "true"})


@pytest.mark.parametrize("variable", ["CI", "LINGLOS_REQUIRE_CPP"])
def test_in_ci_a_missing_compiler_is_a_failure(variable: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="cmake is missing"):
        require(MISSING, {variable: "1"})
    with pytest.raises(pytest.skip.Exception):
        require(MISSING, {variable: "0"})


def test_programs_and_headers_are_looked_for(tmp_path: object) -> None:
    assert [item.what for item in missing_programs(["cmake", "clang++"], path=str(tmp_path))] == ["cmake", "clang++"]
    assert find_program("sh") is not None
    if find_program("g++"):
        assert missing_headers([]) == []
