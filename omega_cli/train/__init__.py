"""Training of the networks that this project ships.

`views`: the residual network of mv-diffuse, on pairs that the real pipeline makes of generated people.
"""
