"""Verbs only: parse, call, print, exit code (0 fine, 1 refused, 2 usage or configuration, 3 could not start).

`main`: the group. `lazy`: which module holds which verb, loaded when it is called. `serving`, `offline`, `door`: the
options of `serve`, of `check`, `explain` and `schema`, of `connect`; what these do stands in modules of their names.
All others are clients of the REST API (`api`), one module for each noun: `instance`, `user`, `token`, `access`,
`operator`, `apikey`, `audit` (with `trails`, where its records are), `importing`, `exporting`, `login`. `entries`:
options that become an instance. `given`: secrets and files from users. `tables`, `doors`: what is shown. `flags`: a
verb's options as one dataclass. `places`: defaults. `words`: one server that is named on the command line.
"""
