"""TensorRT-LLM behind NVIDIA's Triton Inference Server, over gRPC.

TensorRT-LLM has its own HTTP server, which can be measured more precisely: it takes token ids, forces the length and
reports counts. This file is for those who serve TensorRT-LLM with Triton. There a model is a folder with named input
and output tensors, and streaming needs a "decoupled" model, which answers one request with many responses.

NVIDIA ships two such models. `tensorrt_llm` wraps the LLM API (all_models/llmapi): each response repeats all the text
so far. `ensemble` chains tokenizer, engine and detokenizer around a compiled TensorRT engine (releases up to 1.2): each
response has only the new text. The first one that is ready is measured, in that order. Set `decoupled: True` in the
first one's model.yaml: as shipped it is False, and the model cannot stream."""

from harness.adapter import Engine, Ran, Reading, Tensor, TritonDialect, TritonModel

LLM_API = TritonModel(
    name="tensorrt_llm",
    length="sampling_param_max_tokens",
    constants=(
        Tensor("streaming", "BOOL", True),
        Tensor("sampling_param_temperature", "FP32", 0.0),
        Tensor("sampling_param_top_k", "INT32", 1),
        Tensor("sampling_param_exclude_input_from_output", "BOOL", True),  # its default repeats the prompt
        Tensor("return_finish_reason", "BOOL", True),
    ),
    cumulative=True,
    finish_reason="finish_reason",
)
LEGACY = TritonModel(
    name="ensemble",
    least="min_tokens",
    constants=(
        Tensor("stream", "BOOL", True),
        Tensor("top_k", "INT32", 1),  # the most likely token, at any temperature
        Tensor("exclude_input_in_output", "BOOL", True),
        Tensor("return_num_input_tokens", "BOOL", True),
        Tensor("return_num_output_tokens", "BOOL", True),
    ),
    prompt_count="num_input_tokens",
    output_count="num_output_tokens",
    counts="new",
)

ENGINE = Engine(
    name="triton",
    title="TensorRT-LLM on Triton",
    color="#0f766e",
    version="25.12",  # of the image nvcr.io/nvidia/tritonserver:25.12-trtllm-python-py3
    weights="safetensors",
    dialect=TritonDialect(models=(LLM_API, LEGACY)),
    health="/v2/health/ready",
    version_reading=Reading("/v2", ("version",)),  # tritonserver's own number, not the image's
    dtypes={"bfloat16": "bfloat16", "float16": "float16"},
    prefix_cache=(("false",), ("true",)),
    gpu_flags=("{gpus}",),  # in its model.yaml
    containers=("cuda",),
    ready_timeout_s=1200,
    declared={
        "prompt": "sent as text and tokenised again by the engine; the other engines get token ids",
        "end of sequence": "tensorrt_llm cannot ignore it: answers can be shorter than the length asked for",
        "output tokens": "tensorrt_llm reports no count: each response with new text counts as one token",
        "time stamps": "from user space, when gRPC hands over a response; other engines have the kernel's",
    },
    ran=(
        Ran(
            "2.51, of PyTriton 0.7.0",
            "a CPU: decoupled models of both signatures in tests, without TensorRT-LLM",
            "2026-11-26",
        ),
    ),
    never="TensorRT-LLM; its published image",
)
