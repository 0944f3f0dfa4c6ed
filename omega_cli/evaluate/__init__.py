"""Evaluation: one picture of a person in, every other camera as truth (paper sec. 4, supplement D).

Reads a data set (omega_cli.data.nersemble, ava256, valid, studio_set) under a frozen protocol; writes a
folder with protocol.json, per_image.csv, summary.json and table.md. `protocol` holds every choice of the
measurement, those that the paper leaves open included; `frames` what the readers hand over; `instant` is
the work on one of them, `stage` all of it.
"""
