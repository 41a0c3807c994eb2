"""In which precision a checkpoint's weights are: from the tensors themselves, and from wherever a quantisation is
declared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.model.checkpoint import Tensor, bytes_by_dtype
from harness.model.config import Config, whole_number
from harness.model.files import read_object
from harness.visible import visible

PLAIN = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}  # as safetensors names it -> as configs do
# Keys of a config that declare one, and the method if nothing there names it.
_SCHEMES = {"quantization_config": "quantised", "compression_config": "quantised", "quantization": "mlx"}
_BITS = ("num_bits", "bits", "w_bit", "weight_bits")  # keys of a quantisation config with the bits of a weight
# Files beside config.json that declare one, and the method if the file does not name it.
_FILES = {
    "quantize_config.json": "gptq",  # AutoGPTQ
    "quant_config.json": "awq",  # AutoAWQ
    "hf_quant_config.json": "modelopt",  # NVIDIA's ModelOpt
}
# What only quantised checkpoints have beside a weight: packed values, scales, zero points.
_PARTS = re.compile(
    r"\.(qweight|qzeros|g_idx|weight_packed|weight_scale(_inv|_2)?|scale_weight|SCB|absmax|quant_map|quant_state\.\S+)$"
    r"|_(blocks|scales)$|\.weight\.(absmax|quant_map|nested_absmax|quant_state\S*)$"
)
# Not weights: a causal mask of 2,048 x 2,048 bytes a layer is called attention.bias in GPT-NeoX.
_BUFFERS = re.compile(r"(bias|position_ids|inv_freq|mask)$")
_PACKED = {"U8", "I8", "I16", "U16", "I32", "U32", "F4", "F6_E2M3", "F6_E3M2"}


@dataclass(frozen=True, slots=True)
class Precision:
    """`dtype`: "bfloat16", "float16" or "float32", or what the weights are quantised as, such as "awq, 4 bits".
    `method`: how they are quantised; None if they are not."""

    dtype: str
    method: str | None

    @property
    def plain(self) -> bool:
        return self.method is None and self.dtype in PLAIN.values()


def precision_of(folder: Path, config: Config, tensors: Sequence[Tensor]) -> Precision:
    """The precision of a folder's weights: the scheme that is declared anywhere, else what the tensors show; of several
    plain types the one with the most bytes."""
    if scheme := declared_scheme(folder, config):
        return Precision(scheme[1], scheme[0])
    sizes = bytes_by_dtype([t for t in tensors if not _BUFFERS.search(t.name)] or tensors)
    most = sizes.most_common(1)[0][0]
    odd = [name for name in sizes if name not in PLAIN]
    packed = [name for name in odd if name.startswith("F8") or name in _PACKED]
    named = any(_PARTS.search(tensor.name) for tensor in tensors)
    large = max(packed, key=lambda name: sizes[name], default=None)
    if large and (named or most == large or 8 * sizes[large] > sizes.total()):
        return Precision(large, "a scheme that it does not name")
    declared = config.declared_dtype
    if declared and re.search(r"float[48]|int[48]|fp[48]|uint8", declared):
        return Precision(declared, "a scheme that it does not name")
    return Precision(PLAIN.get(most, most), None)


def declared_scheme(folder: Path, config: Config) -> tuple[str, str] | None:
    """(the method's name, the same with the bits of a weight), as a config or a file beside it says; None if nothing
    declares one."""
    levels = (config.whole, config.text)
    for scheme, method in ((level.get(key), method) for level in levels for key, method in _SCHEMES.items()):
        if isinstance(scheme, Mapping) and scheme:
            return _scheme(scheme, method)
    for name, method in _FILES.items():
        if (folder / name).is_file():
            try:
                found = read_object(folder / name, "")
            except HarnessError:
                return method, method
            inner = found.get("quantization")
            return _scheme(inner if isinstance(inner, Mapping) else found, method)
    return None


def _scheme(scheme: Mapping[str, Any], default: str) -> tuple[str, str]:
    named = next((v for k in ("quant_method", "quant_algo") if isinstance(v := scheme.get(k), str) and v), default)
    method = visible(named, 40).lower()
    bits = next((found for key in _BITS if (found := whole_number(scheme.get(key))) is not None), None)
    if method == "compressed-tensors":
        return method, _compressed(scheme)
    return method, f"{method}, {bits} bits" if bits else method


def _compressed(scheme: Mapping[str, Any]) -> str:
    """For compressed-tensors: the format of its first group of layers."""
    groups = scheme.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping) and (bits := whole_number(weights.get("num_bits"))):
            kind = "float" if weights.get("type") == "float" else "int"
            return f"compressed-tensors, {kind} {bits} bits"
    return "compressed-tensors"
