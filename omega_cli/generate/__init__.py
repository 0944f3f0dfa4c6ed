"""The whole path: a photo in, an avatar and a turntable out.

Runs track, mv-diffuse, deform-flame, splat-uv, decode and render in this order, each only if its folder
is not fresh (avatar/freshness.py). A folder edited by hand is used as it is and said. Reads a picture;
writes the whole avatar folder. Several pictures make several avatars; one that fails stops no other.
"""
