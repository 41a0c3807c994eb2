"""Starts the server in xllamacpp's wheel with the arguments of `llama-server`; run as `python -c` with this text. An
argument that is not listed is refused by name."""

import argparse
import signal
import sys

import xllamacpp

NUMBERS = {
    "--port": "port",
    "--threads-http": "n_threads_http",
    "--parallel": "n_parallel",
    "--ctx-size": "n_ctx",
    "--batch-size": "n_batch",
    "--ubatch-size": "n_ubatch",
    "--threads": "cpuparams.n_threads",
    "--threads-batch": "cpuparams_batch.n_threads",
    "--cache-ram": "cache_ram_mib",
    "--seed": "sampling.seed",
}
SWITCHES = {
    "--metrics": ("endpoint_metrics", True),
    "--no-ui": ("ui", False),
    "--no-kv-unified": ("kv_unified", False),
    "--no-repack": ("no_extra_bufts", True),
    "--cache-prompt": ("cache_prompt", True),
    "--no-cache-prompt": ("cache_prompt", False),
    "--no-cache-idle-slots": ("cache_idle_slots", False),
}
FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
KINDS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")  # of a KV cache

parser = argparse.ArgumentParser("xllamacpp", allow_abbrev=False, argument_default=argparse.SUPPRESS)
parser.add_argument("--model", dest="model.path", required=True)
parser.add_argument("--host", dest="hostnames", nargs=1)
parser.add_argument("--alias", dest="model_alias", type=lambda text: {text})
parser.add_argument("--slot-prompt-similarity", dest="slot_prompt_similarity", type=float)
parser.add_argument("--fit", dest="fit_params", type=lambda text: {"on": True, "off": False}[text])
parser.add_argument("--flash-attn", dest="flash", choices=FLASH, default="auto")
for flag, name in NUMBERS.items():
    parser.add_argument(flag, dest=name, type=int)
for flag, (name, value) in SWITCHES.items():
    parser.add_argument(flag, dest=name, action="store_const", const=value)
for which in ("k", "v"):
    parser.add_argument(f"--cache-type-{which}", dest=f"cache_type_{which}", choices=KINDS)

given = vars(parser.parse_args())
params = xllamacpp.CommonParams()
params.flash_attn_type = xllamacpp.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{FLASH[given.pop('flash')]}"]
for name, value in given.items():
    *path, last = name.split(".")
    owner = params
    for step in path:
        owner = getattr(owner, step)
    setattr(owner, last, xllamacpp.ggml_type[f"GGML_TYPE_{value.upper()}"] if last.startswith("cache_type") else value)
try:
    server = xllamacpp.Server(params)
except RuntimeError:
    sys.exit(1)  # its log has the reason
signal.pause()
