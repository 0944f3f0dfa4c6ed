"""Weights are records: which file, from where, under which licence, with which digest."""
