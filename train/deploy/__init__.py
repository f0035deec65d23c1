"""A trained detector outside training: folded, compiled, in ONNX, and proven to give the same scores.

fold.py      what is linear becomes one convolution
kernels.py   the loops of Tiny-LaDeDa, compiled
scorers.py   pixels to logits, the fastest way this machine has
graph.py     the preprocessing as ONNX nodes, resize exact to the bit
export.py    a checkpoint to an ONNX file, checked against torch
runtime.py   an ONNX file as a detector
parity.py    training path, predict path and ONNX path side by side
cases.py     known images with the verdict they must get

May import: the rest of `train`.
"""
