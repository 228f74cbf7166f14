"""What happened, written so that it can be found again.

`record`: what is recorded of an exchange. `redact`: keeps secrets out of every text. `journal`: the append-only file.
`query`: finding records again. `meanings`: what each class of failure means.
"""
