"""A small MCP server on stdio whose tools do what tests want to see. One thread, one line at a time, no SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

TOOLS = [
    *("echo", "progress", "log", "ask", "hold", "release", "crash", "changed"),
    *("whoami", "updated", "stray", "big", "spawn", "noise", "env"),
]
VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

# Questions of this server by their id: the request that waits for the answer. Requests that `hold` keeps.
asked: dict[str, Any] = {}
held: list[Any] = []
heard: list[Any] = []


def write(said: str) -> None:
    """Text, in UTF-8 whatever the environment says."""
    sys.stdout.buffer.write(said.encode())
    sys.stdout.buffer.flush()


def send(message: dict[str, Any]) -> None:
    """One line."""
    write(json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":"), ensure_ascii=False) + "\n")


def note(method: str, **params: object) -> None:
    """A notification."""
    send({"method": method, "params": params} if params else {"method": method})


def text(request_id: object, value: object) -> None:
    """A tool's result."""
    send({"id": request_id, "result": {"content": [{"type": "text", "text": str(value)}]}})


def call(request_id: object, params: dict[str, Any]) -> None:
    """One tool call."""
    name, arguments = params["name"], params.get("arguments") or {}
    meta = params.get("_meta") or {}
    if name == "echo":
        text(request_id, arguments.get("text", ""))
    elif name == "progress":
        for step in range(int(arguments.get("steps", 3))):
            note("notifications/progress", progressToken=meta["progressToken"], progress=step)
        text(request_id, "done")
    elif name == "log":
        note("notifications/message", level="info", data=arguments.get("text", ""))
        text(request_id, "logged")
    elif name == "ask":
        question = f"q{request_id}"
        asked[question] = request_id
        send({"id": question, "method": arguments.get("method", "sampling/createMessage"), "params": {}})
    elif name == "hold":
        held.append((request_id, meta.get("progressToken"), arguments))
        if arguments.get("tell"):
            note("notifications/progress", progressToken=meta["progressToken"], progress=0)
    elif name == "release":
        while held:
            waiting, token, about = held.pop(0)
            if token is not None:
                note("notifications/progress", progressToken=token, progress=1)
            text(waiting, about.get("text", "released"))
        text(request_id, "ok")
    elif name == "crash":
        sys.stderr.write("going down: " + str(arguments.get("last", "")) + "\n")
        sys.stderr.flush()
        os._exit(int(arguments.get("code", 3)))
    elif name == "changed":
        note("notifications/tools/list_changed")
        text(request_id, "ok")
    elif name == "updated":
        note("notifications/resources/updated", uri=arguments["uri"])
        text(request_id, "ok")
    elif name == "whoami":
        text(request_id, json.dumps({"pid": os.getpid(), "heard": heard}))
    elif name == "stray":
        send({"id": 987654321, "result": {"content": [{"type": "text", "text": "nobody's"}]}})
        send({"id": None, "error": {"code": -32600, "message": "about nobody"}} if held else {"id": "x", "result": {}})
        text(request_id, "mine")
    elif name == "big":
        text(request_id, "x\u00e9" * (int(arguments["size"]) // 2))
    elif name == "noise":
        write("starting up...\r\n\r\n\n{not json}\n[\nWARN a\u00e9\n")
        text(request_id, "heard through")
    elif name == "env":
        text(request_id, json.dumps({key: os.environ.get(key) for key in arguments["names"]}))
    elif name == "spawn":
        # A child of the child in a session of its own, which outlives its parent unless somebody looks for it.
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        pids = [subprocess.Popen(command, start_new_session=apart).pid for apart in (False, True)]
        text(request_id, json.dumps([os.getpid(), *pids]))
    else:
        send({"id": request_id, "error": {"code": -32602, "message": f"no tool {name}"}})


def request(request_id: object, method: str, params: dict[str, Any]) -> None:
    """One request."""
    if method == "initialize":
        wanted = params.get("protocolVersion")
        result = {
            "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[-1],
            "capabilities": {"tools": {"listChanged": True}, "logging": {}, "tasks": {"list": {}}},
            "serverInfo": {"name": "test", "version": "1"},
        }
        send({"id": request_id, "result": result})
    elif method == "tools/list":
        send({"id": request_id, "result": {"tools": [{"name": name, "inputSchema": {}} for name in TOOLS]}})
    elif method == "tools/call":
        call(request_id, params)
    elif method in ("ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        heard.append(method)
        send({"id": request_id, "result": {}})
    else:
        send({"id": request_id, "error": {"code": -32601, "message": f"no method {method}"}})


def take(message: dict[str, Any]) -> None:
    """One message of the client."""
    if "method" not in message:
        waiting = asked.pop(message["id"], None)
        if waiting is not None:
            text(waiting, json.dumps(message.get("result", message.get("error"))))
        else:
            heard.append(message["id"])
    elif "id" in message:
        request(message["id"], message["method"], message.get("params") or {})
    else:
        heard.append(message["method"])
        if message["method"] == "notifications/cancelled":
            heard.append(message["params"]["requestId"])
            held[:] = [item for item in held if item[0] != message["params"]["requestId"]]


def main() -> None:
    """Until standard input ends."""
    for line in sys.stdin.buffer:
        take(json.loads(line))


if __name__ == "__main__":
    main()
