"""Semantic-aware mesh deformation (paper 3.2, Eq. 1 to 3).

Reads source/ (the fitted parameters, the camera and the 68 landmarks of the photo) and views/ (cameras,
world-space normals, masks). Writes mesh/: offsets.npz (ΔV, canonical, before skinning), flame.npz (the
views' frame: head rotation, neck and translation removed, the photo's expression kept), canonical.obj,
posed.obj, fit.jsonl (each loss term at each step), overlay/<az>.png (mesh normals blended with targets).

One pass, no remeshing. Weights: the head model alone.
"""
