"""The contract: every file name (`layout`), every format (`codecs`) and every record (`record`).

Imported by stages, commands and `data/` alone. Imports no torch here.
"""
