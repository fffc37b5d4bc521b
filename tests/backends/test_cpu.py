from __future__ import annotations

import pytest

from linglos_deploy.backends.cpu import parse_cpuinfo, this_cpu

X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu sse4_1 avx2 {flags}\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {flags}\nCPU part\t: 0xd42\n"


def test_x86_without_vnni_saturates() -> None:
    cpu = parse_cpuinfo(X86.format(flags="avx512f"), architecture="x86_64", cores=2)

    assert (cpu.model, cpu.instructions, cpu.cores) == ("Some CPU @ 2.00GHz", ("avx2", "avx512f"), 2)
    assert cpu.int8_saturates
    assert cpu.int8_dot_products == ()


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_x86_with_dot_products_does_not_saturate(flag: str) -> None:
    cpu = parse_cpuinfo(X86.format(flags=flag), architecture="x86_64")

    assert not cpu.int8_saturates
    assert cpu.int8_dot_products == (flag,)


@pytest.mark.parametrize("flags", ["", "asimddp i8mm"])
def test_arm_never_saturates(flags: str) -> None:
    cpu = parse_cpuinfo(ARM.format(flags=flags), architecture="aarch64")

    assert not cpu.int8_saturates
    assert cpu.int8_dot_products == tuple(flags.split())


def test_an_unknown_system_still_has_a_name() -> None:
    assert parse_cpuinfo("", architecture="riscv64").model
    assert not parse_cpuinfo("", architecture="riscv64").int8_saturates


def test_this_machine_has_cores() -> None:
    assert this_cpu().cores >= 1
    assert this_cpu() is this_cpu()
