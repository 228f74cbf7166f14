"""The models as a JSON Schema for editors and as `docs/configuration.md`.

`python -m moongate.control.schema.reference > docs/configuration.md` writes the page anew; a test fails while it is
stale.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from moongate.control.schema.document import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Where each block of the page begins, in reading order; every other block follows the one that names it first.
_FIRST_KEYS = ("url", "command", "cmd", "args", "env", "cwd", "type", "transport")
_LAST_WORDS = ("ignored", "refused", "not there yet.")

_INTRODUCTION = """\
# Configuration

<!-- Generated: python -m moongate.control.schema.reference > docs/configuration.md -->

A configuration is one file or several (`-f one.yaml -f two.json`), in YAML or JSON. Both dialects may stand in one
file: `mcpServers`, which every MCP client knows, and `binds`, as in agentgateway's files.

```yaml
gateway:
  prefix: /mcp
  tokens:
    - {name: alice, token: "${ALICE_TOKEN}", instances: [time], expires: 2027-01-01}
mcpServers:
  time:
    url: http://127.0.0.1:9000/mcp
    type: streamable-http
    auth: required
  search:
    url: https://search.example.com/mcp
    headers: {Authorization: "Bearer ${SEARCH_TOKEN}"}
    timeout: 10000
  notes:
    command: npx
    args: [-y, "@modelcontextprotocol/server-filesystem", /srv/notes]
    env: {API_KEY: "${NOTES_KEY}"}
```

Here a client reaches the first server at `http://127.0.0.1:8000/mcp/time`. The last is a local one, which the gateway
runs itself and speaks to over stdio; clients reach it in the same way. The same with ports, host names and paths of
one's own:

```yaml
binds:
  - port: 3101
    listeners:
      - name: inside
        hostname: tools.example.com
        routes:
          - name: home-assistant
            matches:
              - path: {pathPrefix: /mcp/home-assistant}
            policies:
              requestHeaderModifier:
                set: {Authorization: "Bearer ${HOME_ASSISTANT_TOKEN}"}
            backends:
              - mcp:
                  targets:
                    - name: home-assistant
                      mcp: {host: "http://192.168.1.68:8123/api/mcp"}
          - name: notes
            matches:
              - path: {pathPrefix: /mcp/notes}
            backends:
              - mcp:
                  targets:
                    - name: notes
                      stdio: {cmd: npx, args: [-y, "@modelcontextprotocol/server-filesystem", /srv/notes]}
```

`moongate check FILE` says whether a file can be used: every error at once, each with file and line. `moongate
schema` prints the JSON Schema that editors complete and check files with.

## Rules for all blocks

- **Unknown keys are errors**, and so are keys that stand twice, and values of a wrong type. Nothing is guessed.
- **`${NAME}`** in a value is replaced by the environment variable, anywhere in the text; one that is not set is an
  error. `$${` stands for a literal `${`. The replacement happens after the file was parsed: a value can never add
  keys or lines. A value that is nothing but one reference may become a number or a boolean. What came from the
  environment is never shown in messages.
- **YAML** is read with the types of YAML 1.2: `off`, `yes` and dates are text. Inside `{...}` and `[...]` a
  reference needs quotes.
- **Durations** have a unit: `500ms`, `100s`, `1m`, `1h30m`, with `d`, `h`, `m`, `s`, `ms` in this order. A bare
  number is an error. Only `timeout` and `sseReadTimeout` are whole numbers of milliseconds, as in the files of MCP
  clients.
- **File names** are relative to the file that names them. `~` is not replaced; `${HOME}` is.
- **Local servers** (`command`, or a `stdio` target) get their arguments as they are written; no shell reads them. They
  inherit the gateway's environment without `MOONGATE_*` and without the variables that any of the files names in
  `${...}`: these are the gateway's secrets, and a server gets those that its `env` gives it. Variables that describe
  the user and the machine (`HOME`, `PATH`, `LANG`, `TMPDIR`, `XDG_*`, ...) are always passed on. A program or folder
  that is not there is a warning, at a check as at a start.
- **Several files** are read as one: `mcpServers` and `gateway` may be shared between them, `binds` and
  `gateway.tokens` are put one after the other. The same key or instance in two files is an error that names both
  places.
- **Names** of instances, routes and targets are made of letters, digits, `.`, `_` and `-`.
- **Addresses**: `http` or `https`, no fragment, no spaces. A user and password in one become its Basic credential;
  beside an `Authorization` header that is an error. International host names are converted to their ASCII form.
- **Headers** that belong to the connection, to the body or to the MCP session (`Host`, `Content-Length`,
  `Connection`, `Mcp-Session-Id`, ...) cannot be set or removed.
- **Routes of one port**: the listener is chosen by `Host` (exact, then the longest wildcard, then the one without
  hostname), the route by its path (exact, then the longest prefix, then regular expressions). Two routes of a
  listener that take the same requests are an error. A route's own `hostnames` make listeners of their own, in which
  the routes without `hostnames` stand too.
- **The port of the `mcpServers` instances** (8000, or `--port`) cannot be the port of a bind as well: that is an
  error.
"""


def json_schema() -> dict[str, Any]:
    """One JSON Schema document for the whole file."""
    schema = _without_noise(Document.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, "title": "Moongate configuration", **schema}


def _without_noise(schema: Any) -> Any:
    """Titles that only repeat the key, and defaults that say "nothing", help nobody who edits a file."""
    if isinstance(schema, list):
        return [_without_noise(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    noise = {
        key
        for key, value in schema.items()
        if (key == "title" and isinstance(value, str)) or (key, value) == ("default", None)
    }
    return {key: _without_noise(value) for key, value in schema.items() if key not in noise}


def markdown() -> str:
    """The page `docs/configuration.md`."""
    page = _Page(json_schema())
    page.block("The file", "", page.schema)
    return _INTRODUCTION + "\n" + "\n".join(page.lines).rstrip() + "\n"


class _Page:
    """Writes each block once, where it is first named; blocks inside it follow in the order of their keys."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.lines: list[str] = []
        self._headings: dict[str, str] = {}

    def block(self, heading: str, path: str, block: dict[str, Any]) -> None:
        self.lines += [f"## {heading}", "", block.get("description", ""), ""]
        properties: dict[str, Any] = block.get("properties", {})
        keys = sorted(properties, key=lambda key: _rank(key, properties[key]))
        inner = [(key, *found) for key in keys if (found := self._inner(properties[key]))]
        fresh: list[tuple[str, str]] = []
        for key, name, suffix in inner:
            if name not in self._headings and self.schema["$defs"][name].get("properties"):
                self._headings[name] = f"{path}.{key}{suffix}".lstrip(".")
                fresh.append((name, self._headings[name]))
        if keys:
            self.lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
            required = block.get("required", [])
            self.lines += [self._row(key, properties[key], required=key in required) for key in keys]
            self.lines.append("")
        for name, where in fresh:
            self.block(f"`{where}`", where, self.schema["$defs"][name])

    def _row(self, key: str, value: dict[str, Any], *, required: bool) -> str:
        default = value.get("default")
        shown = (
            "required"
            if required
            else ""
            if default is None or isinstance(default, dict)
            else f"`{json.dumps(default)}`"
        )
        return (
            "| "
            + " | ".join(
                cell.replace("|", "\\|")
                for cell in (f"`{key}`", self._type(value), shown, value.get("description", ""))
            )
            + " |"
        )

    def _inner(self, value: dict[str, Any]) -> tuple[str, str] | None:
        """The block that a key holds, alone, as list items or under names."""
        value = _not_null(value)
        if "$ref" in value:
            return value["$ref"].rpartition("/")[2], ""
        if value.get("type") == "array":
            item = self._inner(value["items"])
            return (item[0], "[]" + item[1]) if item else None
        named = _named(value)
        found = self._inner(named) if named else None
        return (found[0], ".<name>" + found[1]) if found else None

    def _type(self, value: dict[str, Any]) -> str:
        value = _not_null(value)
        if "$ref" in value:
            name = value["$ref"].rpartition("/")[2]
            where = self._headings.get(name)
            return f"[block](#{_anchor(where)})" if where else "block"
        if "x-kind" in value:
            return str(value["x-kind"])
        if "enum" in value:
            return " or ".join(f"`{choice}`" for choice in value["enum"])
        if "const" in value:
            return f"`{value['const']}`"
        if value.get("type") == "array":
            return f"list of {self._type(value['items'])}"
        if (named := _named(value)) is not None:
            return f"names to {self._type(named)}"
        return {"string": "text", "object": "block"}.get(str(value.get("type")), str(value.get("type", "anything")))


def _named(value: dict[str, Any]) -> dict[str, Any] | None:
    """The values of a key that holds names of the operator's choice."""
    free = value.get("additionalProperties")
    values = [free] if isinstance(free, dict) else list(value.get("patternProperties", {}).values())
    return values[0] if len(values) == 1 else None


def _rank(key: str, value: dict[str, Any]) -> int:
    if key in _FIRST_KEYS:
        return _FIRST_KEYS.index(key) - len(_FIRST_KEYS)
    text = value.get("description", "").lower()
    return 2 if any(words in text for words in _LAST_WORDS) else 1


def _not_null(value: dict[str, Any]) -> dict[str, Any]:
    """An optional key's own type."""
    choices = [choice for choice in value.get("anyOf", []) if choice.get("type") != "null"]
    return choices[0] if len(choices) == 1 and "x-kind" not in value else value


def _anchor(heading: str) -> str:
    """As code hosts make links of headings."""
    return "".join(char for char in heading.lower() if char.isalnum() or char in "-_")


if __name__ == "__main__":
    sys.stdout.write(markdown())
