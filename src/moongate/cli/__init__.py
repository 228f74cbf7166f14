"""Verbs only: parse, call, print, exit code (0 fine, 2 usage or configuration, 3 could not start).

`main`: the typer app. `serve`, `check`, `schema`, `connect`, `explain`: one verb each. `words`: one server that is
named on the command line. `flags`: a verb's options as one dataclass.
"""
