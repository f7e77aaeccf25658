# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared, besides scripted_program with its scripts."""
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parent.parent / "examples/models/stories42m.json"
MPI_ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
MPI_CASES = ["end_of_main_thread", "no_finalize", "aborts", "communicators", "between_groups",
             "not_significant", "handled_errors"]


def known_scripts():
    lines = (HERE / "cases.txt").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def sorted_lines(text):
    """Of several ranks: in any order, without what mpirun says of process numbers."""
    return sorted(line for line in text.splitlines() if re.match(rb"rank|the tool", line))


def without_times(text):
    """Of tp_decoder: without the lines that are measured."""
    return [line for line in text.splitlines() if not re.match(rb"prefill|tokens/s|median", line)]


def other_programs(folder):
    """Name, command, environment, tidy."""
    yield "an MPI without PMPI names", [folder / "mpi_serial"], {}, bytes
    if (folder / "scripted_program_static").exists():
        command = [folder / "scripted_program_static", "nvtx", "say:x", "exit:3"]
        yield "linked statically", command, {}, bytes
    if (folder / "program_of_musl").exists():
        yield "of musl", ["sh", "-c", '"$1"; exit $?', "sh", folder / "program_of_musl"], {}, bytes
    yield ("with AddressSanitizer", [folder / "scripted_program_asan", "nvtx", "say:x", "exit:3"], {},
           bytes)


def mpi_programs(folder, decoder):
    run = ["mpirun", "--oversubscribe", "-np"]
    for name in MPI_CASES:
        yield name, run + ["3", folder / "odd_mpi", name], MPI_ENVIRONMENT, sorted_lines
    yield ("another tool linked", run + ["2", folder / "odd_mpi_with_tool", "communicators"],
           MPI_ENVIRONMENT, sorted_lines)
    yield ("another tool preloaded", run + ["2", folder / "odd_mpi", "communicators"],
           {**MPI_ENVIRONMENT, "LD_PRELOAD": str(folder / "libmpi_other_tool.so")}, sorted_lines)
    yield ("tp_decoder", run + ["2", decoder, "--config", MODEL, "--layers", "2", "--tokens", "4",
                                "--print-tokens"], MPI_ENVIRONMENT, without_times)
