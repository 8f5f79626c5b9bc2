"""Whether a model computes with numbers that were made smaller: its program says so by its operations."""

from __future__ import annotations

import mmap
import re

from runtime.worker.formats import ModelFiles

# Operations of Paddle, without the dialect's number.
_PADDLE = (
    rb"(?:fake_)?(?:channel_wise_)?(?:de)?quantize[a-z_]*"
    rb"|weight_only_linear|weight_(?:de)?quantize|llm_int8_linear|apply_per_channel_scale"
)
_ONNX = (
    rb"(?:Dynamic)?Quantize[A-Za-z]*|DequantizeLinear|QLinear[A-Za-z]+|ConvInteger|MatMulInteger"
    rb"|MatMulNBits|QAttention|QGemm|QMoE"
)
_PIR = re.compile(rb'"#"\s*:\s*"\d+\.(?:' + _PADDLE + rb')"')
# In a protobuf a string stands behind its field's tag and its length: OpDesc.type is field 3, op_type of
# ONNX's NodeProto field 4. Names of weights and attributes have other fields or other lengths.
_PROGRAM = re.compile(rb"\x1a(.)(" + _PADDLE + rb")", re.DOTALL)
_GRAPH = re.compile(rb"\x22(.)(" + _ONNX + rb")", re.DOTALL)


def quantized(files: ModelFiles) -> bool:
    """What a file has that cannot be read is for loading to say: such a model is not quantized."""
    try:
        if files.model.stat().st_size == 0:
            return False
        with open(files.model, "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as data:
            if files.format == "pir":
                return _PIR.search(data) is not None
            pattern = _GRAPH if files.onnx else _PROGRAM
            return any(match[1][0] == len(match[2]) for match in pattern.finditer(data))
    except OSError:
        return False
