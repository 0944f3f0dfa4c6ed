"""Decode the canonical UV map into Gaussians bound to the head mesh (paper 3.3, hybrid representation).

Reads uv/ and mesh/, and source/ and views/, to which the Gaussians are fitted. Writes gaussians/: one for
each covered UV texel and one per vertex, and the canonical head as a 3DGS PLY. The base is computed from the
surface itself. Weights: a network (avatar_decoder), where there is one, adds to it; its Gaussians have 32
colours in place of 3.
"""
