"""The studio: endless multi-view ground truth from generated people.

`people.sample_person(seed)` draws a person: the open head with random identity, a synthesised skin, grown
hair, clothes. `scene.render_sample` gives, for any expression, pose, light and cameras: colour, alpha, world
normals, depth, semantic labels and landmarks. `degrade` makes a photo-like input of a picture.
`omega studio preview -o DIR` draws contact sheets. Everything is made here; no outside file is read.
"""

STUDIO_VERSION = 2
"""Raised whenever a seed's picture changes: figures of two versions do not compare."""
