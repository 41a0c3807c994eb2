"""llama.cpp's own server out of a wheel: for machines where llama.cpp cannot be built, because they have no compiler.

The package `xllamacpp` binds llama.cpp's C++ server to Python; requests never reach Python. It is llama.cpp in all that
engines/llamacpp.py says of requests, pages and settings, but built for every x86-64 processor with AVX2, without
AVX-512 and AMX."""

from dataclasses import replace
from pathlib import Path

from engines.llamacpp import ENGINE as LLAMACPP
from harness.adapter import Native, Venv

START = Path(__file__).with_name("xllamacpp_server").joinpath("start.py").read_text(encoding="utf-8")
START = START.replace("{", "{{").replace("}", "}}")  # braces of a command are filled in

ENGINE = replace(
    LLAMACPP,
    name="xllamacpp",
    title="llama.cpp (xllamacpp wheel)",
    color="#8a4b1f",
    version="2026.10.11549",
    instead_of="llamacpp",
    version_reading=None,  # its /props says `b0-unknown`, in every version
    containers=(),
    native=Native(
        install=Venv(("xllamacpp=={version}",), hint="There are wheels for x86-64 and arm64."),
        command=("{program}", "-c", START, *LLAMACPP.native.command[1:]),
        program="{env}/bin/python",
    ),
    native_cuda=None,
    trust_flags=None,
    gpu_flags=(),
    declared={
        **LLAMACPP.declared,
        "build": "for every processor with AVX2, without AVX-512 and AMX: slower than a build for this machine (0.57 "
        "times its tokens/s on one with AMX)",
        "version": "it does not show it; taken from the package that was installed",
    },
)
