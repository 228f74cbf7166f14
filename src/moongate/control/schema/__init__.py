"""What users may write, as strict pydantic models: one module per dialect; an unknown key is an error.

`document`: a whole file. `mcp_servers`, `binds`, `gateway`: its three blocks; `platform`: those of the second process.
`access`, `browser`, `route_policies`, `backend` and `hosted`: parts that both dialects share. `values`, `addresses`,
`headers`, `durations`: single values, and the reasons they are refused for. `judge`: a tree of nodes against the
models, errors in the operator's words. `reference`: the models as documentation.
"""
