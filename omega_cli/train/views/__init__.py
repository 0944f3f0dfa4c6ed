"""Training the view network: people -> photo -> real fit and lift -> network -> six true views.

`shots` draws a person, photographs them and fits the head as `track` does; `samples` packs what the network
is told and what is true into bytes; `makers` runs that in processes that write files; `pool` keeps the
files of a folder in memory; `loss`, `loop` and `score` train and judge.
"""
