"""The project's own compiled operations: UV splatting, mesh and Gaussian rasterisation.

Each has one C++ implementation for the CPU behind a plain C interface, and one plain torch reference
that defines its meaning (`reference.py`). `build.py` is free of torch, so that setup.py can use it.
"""
