"""From the files of MCP clients and of another gateway to instances. Pure: text in, entries and notes out.

`read`: tells the dialects apart. `found`: what comes out. `servers`: `mcpServers` and VS Code's `servers`. `codex`:
TOML. `agentgateway`: `binds`. `references`: the ways to write a variable. What cannot be taken over is a note, never
dropped silently.
"""
