"""Arithmetic that a run's precision does not reach. Owns the context, not what runs inside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def float32_only(device: torch.device) -> Iterator[None]:
    """Computes in plain float32: no autocast, no TF32, no other default type, repeatable kernels.

    What was set before is restored at the end, also after an error.

    Args:
        device: where the work is done.
    """
    with ExitStack() as restore:
        restore.enter_context(torch.autocast(device.type, enabled=False))
        # Lightning's precision=bf16-true makes bfloat16 the type of new tensors.
        restore.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        cudnn = torch.backends.cudnn
        for flag, value in (("benchmark", False), ("deterministic", True)):
            restore.callback(setattr, cudnn, flag, getattr(cudnn, flag))
            setattr(cudnn, flag, value)
        _forbid_tf32(restore)
        yield


def _forbid_tf32(restore: ExitStack) -> None:
    """Switches TF32, and bfloat16 in place of float32, off until `restore` is closed."""
    cudnn = torch.backends.cudnn
    try:
        matmul, convolution = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    except RuntimeError:
        # Set through torch's newer switches, which refuse to be read through the older ones.
        newer: Any = torch.backends
        gpu, cpu = (newer.cuda.matmul, newer.cudnn.conv), (newer.mkldnn.matmul, newer.mkldnn.conv)
        for switch in gpu + cpu:
            restore.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
            switch.fp32_precision = "ieee"
        return
    restore.callback(torch.set_float32_matmul_precision, matmul)
    torch.set_float32_matmul_precision("highest")
    restore.callback(setattr, cudnn, "allow_tf32", convolution)
    cudnn.allow_tf32 = False
