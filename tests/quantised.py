"""Makes a Q8_0 GGUF of a GGUF file: llama.cpp's own rounding, as its Python package has it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from harness.model.exact import from_bf16


def write_q8_0(source: Path, path: Path) -> Path:
    """The same model with its matrices in 8 bits; vectors stay as they are."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    for tensor in reader.tensors:
        if sum(1 for n in tensor.shape if n > 1) <= 1:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
            continue
        values = from_bf16(np.array(tensor.data).view(np.uint16))
        eight = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, eight), raw_dtype=eight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
