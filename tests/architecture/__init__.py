"""Holds the code to its own rules, by reading it (never by importing it).

`rules.py` has the rules as data: who may import whom, how long things may be. `source.py` reads modules, `imports.py`
and `shape.py` compare the two and return complaints, `texts.py` looks through all files of the project, `verdict.py`
fails a test with its complaints. Each check is shown to bite on a bad snippet. `broad_except.txt` lists the few places
that may catch everything.
"""
