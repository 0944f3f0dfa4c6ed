"""Decode the canonical UV map into Gaussians bound to the head mesh (paper 3.3, hybrid representation).

Reads uv/ and mesh/. Writes gaussians/: one Gaussian per covered UV texel and one per vertex, and the
canonical head as a 3DGS PLY. Weights: none; this is the analytic base, computed from the surface itself.
"""
