"""Omega: one portrait in, a 360-degree, animatable 3D Gaussian head avatar out."""

__version__ = "0.1.0"
