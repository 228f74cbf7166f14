"""The control plane: what users write is read, judged and compiled to a `Snapshot` that the data plane runs from.

Reading order: `nodes` (a parsed file that still knows its lines), `yamltext` and `jsontext` (text to nodes),
`environment` (`${NAME}`), `files` (load and merge), `schema` (what may be written), `compile` (documents to
`Snapshot`, or every complaint at once) with its chapters `settings` (the `gateway:` block), `policies`, `access`,
`browser` (`cors` and `csrf`), `route_policies` (redirects, answers, rewriting, limits), `targets`, `servers`
(`mcpServers`), `binds` and `hosted` (local servers). `programs` looks whether these are there, `line` makes a document
of the command line, `source` reads either. `publish` puts a new snapshot into force, `addresses` tells where routes
are. `reading` and `findings`: limits and complaints that all of them share.

`secrets` keeps the gateway's key, `sealing` encrypts with it, `claim` keeps a data directory for one gateway.
`platform`: what stands in the store, and its services. `published`: how that reaches the data plane. `imports`: files
of other programs; `clients`: files for them.
"""
