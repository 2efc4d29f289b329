"""The GPU room: which device is used, whether Triton kernels run there, and how they are launched.

- `device`: the device of a setting, deterministic sums on the CPU. `precision`: autocast and TF32.
- `availability`: why Triton kernels cannot run here, and a switch that turns them off for a block of code.
- `interpreter`: whether kernels are interpreted on the CPU (TRITON_INTERPRET=1).
- `cuda_graph`: work that is captured once and replayed.
- `tile_shape`: tile sizes, warps, stages and registers of one kernel.
- `launcher`: launches kernels with little Python; `fast_launch` is all of Triton's private interface that
  this takes, checked against the versions it was tested with, and `precompile` compiles kernels side by side.

In come kernels, tensors and numbers; out go launches on the current stream. Whoever has kernels of their own
(`attention`, `layers.kernels`, `losses.kernels`) comes through here. The room imports nothing else of
`models`, and only `launcher`, `fast_launch` and `precompile` import Triton.
"""
