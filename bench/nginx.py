"""Two nginx: the stub that gives fixed answers faster than anything in front of it, and the plain reverse proxy.

The proxy is nginx at its best: one worker, HTTP/1.1 with a keep-alive pool to the stub, no access log, no files.
"""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from bench import payloads, plan
from bench.processes import HOST, Child, tool

if TYPE_CHECKING:
    from pathlib import Path

_COMMON = """
worker_processes 1;
daemon off;
pid nginx.pid;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
{http}
}}
"""

_PROXY = """
  upstream fixed {{ server {host}:{fixed}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  upstream streams {{ server {host}:{streams}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  server {{
    listen {host}:{port} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_max_temp_file_size 0;
    location / {{ proxy_pass http://fixed; }}
    location = /event {{ proxy_pass http://fixed; proxy_buffering off; }}
    location = /streams {{ proxy_pass http://streams; proxy_buffering off; proxy_read_timeout 600s; }}
  }}
"""


def start_stub(directory: Path, core: int, port: int) -> Child:
    """Serve `/small`, `/event`, `/large` and `/huge`; a request without a session id gets a new session."""
    places = "\n".join(_location(answer, directory) for answer in plan.ANSWERS)
    server = f"  server {{\n    listen {HOST}:{port} backlog=4096;\n    etag off;\n    max_ranges 0;\n{places}\n  }}"
    return _start(directory, core, port, server)


def start_proxy(directory: Path, core: int, port: int, fixed: int, streams: int) -> Child:
    """Pass everything on to the stub on `fixed`, and `/streams` to the event stub on `streams`."""
    return _start(directory, core, port, _PROXY.format(host=HOST, port=port, fixed=fixed, streams=streams))


def _location(answer: plan.Answer, directory: Path) -> str:
    """Answer by media type and size: text from the configuration, or a file, which nginx gives to a POST only so."""
    new_session = (
        f"      default_type {payloads.JSON};\n"
        '      if ($http_mcp_session_id = "") {\n'
        "        add_header Mcp-Session-Id $request_id;\n"
        f"        return 200 '{payloads.INITIALIZED.decode()}';\n"
        "      }\n"
    )
    same_session = "      add_header Mcp-Session-Id $http_mcp_session_id;\n"
    opening = f"    location = /{answer.location} {{\n"
    if answer.media_type == payloads.EVENT_STREAM:
        # an SSI pass makes the length unknown, hence chunks, as every server of event streams sends them
        text = answer.body.decode().replace("\n", "\\n")
        body = f"      ssi on;\n      ssi_types {answer.media_type};\n      return 200 '{text}';\n"
        kind = (
            f"      default_type {answer.media_type};\n"
            '      if ($http_mcp_session_id = "") { rewrite ^ /new last; }\n'
        )
        new = f"    location = /new {{\n{new_session}      return 400;\n    }}\n"
        return f"{new}{opening}{kind}{same_session}{body}    }}"
    if len(answer.body) < 1024:
        return f"{opening}{new_session}{same_session}      return 200 '{answer.body.decode()}';\n    }}"
    files = directory / "answers"
    files.mkdir(exist_ok=True)
    (files / answer.location).write_bytes(answer.body)
    name = f"/answers/{answer.location}"
    file = (
        f"    location = {name} {{\n      internal;\n      root {directory};\n      sendfile on;\n"
        f'      default_type {payloads.JSON};\n      add_header Last-Modified "";\n{same_session}    }}\n'
    )
    return f"{file}{opening}{new_session}      error_page 405 =200 {name};\n      return 405;\n    }}"


def _start(directory: Path, core: int, port: int, http: str) -> Child:
    user = getpass.getuser()
    # started by root, the worker would be nobody and could not enter the temporary directory
    text = _COMMON.format(http=http, user="user root;" if user == "root" else "")
    (directory / "nginx.conf").write_text(text, encoding="ascii")
    argv = [tool("nginx"), "-p", f"{directory}/", "-e", "error.log", "-c", "nginx.conf"]
    child = Child(argv, core, directory / "error.log")
    child.wait_for_port(port)
    return child
