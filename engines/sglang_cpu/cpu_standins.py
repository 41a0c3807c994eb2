"""Declares two operators of torchvision. Its wheel is built for CUDA: beside the CPU build of torch its compiled part
cannot be loaded, and with it are missing the operators whose shapes its own Python declares when it is imported.
Imported at the start of every interpreter of SGLang's environment (cpu_standins.pth)."""

import sys
from types import ModuleType

OPERATOR = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class BeforeTorchvision:
    """Notices that torchvision is about to be imported; finds nothing itself."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:  # beside a torch that is built for CUDA, its compiled part loads
                for operator in ("nms", "qnms"):
                    torch.library.define(f"torchvision::{operator}", OPERATOR)


sys.meta_path.insert(0, BeforeTorchvision())
