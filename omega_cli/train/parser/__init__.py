"""Training the face parser: people drawn with their labels, and photographs of which a little is sure.

`drawn` draws generated people and blends as the tracker's crop would show them; `workers` does that in
processes; `pack` puts photographs with landmarks and matte into one file; `partial` says which labels they
allow where; `worn` puts on them what few wear; `augment` makes pictures of it all, on the training device;
`loss`, `loop` and `score` train and judge; `compare` sets the result beside another parser's. No label of
another parser is trained on.
"""
