"""Training of the networks that this project ships.

`views`: the residual network of mv-diffuse, on pairs that the real pipeline makes of generated people.
`parser`: track's face parser, on drawn people with labels and on what is sure about photographs.
"""
