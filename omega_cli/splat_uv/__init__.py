"""Multi-view feature splatting (paper 3.3, eq. 4 to 7).

Reads views/ (six RGB views, masks, cameras), mesh/ (the deformed head in the views' pose) and, to tell
eye from lid, source/ (parsing, camera). Writes uv/: the canonical UV feature map, its weight, the identity
vector and three pictures. Weights: an encoder (avatar_encoder), where there is one: its features follow the
view's RGB and a fixed filter bank.
"""
