"""The page of the one-time link: it signs in, and makes the account. All of it is in one answer.

The code stands behind # in the address, where no server and no log sees it.
"""

from __future__ import annotations

import base64
import hashlib

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_SCRIPT = """
"use strict";
const code = new URLSearchParams(location.hash.slice(1)).get("code");
const form = document.getElementById("form"), said = document.getElementById("said");
const named = (id) => document.getElementById(id);
if (code) {
  history.replaceState(null, "", location.pathname);
  named("what").textContent = "This link works once. Choose a name, and a password of at least 12 characters.";
  named("password").autocomplete = "new-password";
  named("password").minLength = 12;
  named("send").textContent = "Make the account";
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = {name: named("name").value, password: named("password").value};
  if (code) body.code = code;
  named("send").disabled = true;
  try {
    const answer = await fetch("/api/v1/sign-in", {
      method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body),
    });
    const found = await answer.json();
    if (answer.ok) {
      form.hidden = true;
      named("what").textContent = "Signed in as " + found.name + " (" + found.role + ").";
      named("next").hidden = false;
      said.textContent = "";
    } else {
      said.textContent = [found.detail].concat((found.errors || []).map((error) => error.text)).join(": ");
    }
  } catch (error) {
    said.textContent = "The gateway does not answer.";
  }
  named("send").disabled = false;
});
"""
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto; padding: 0 1rem; color: #1d2733;
  background: #fbfbfd; }
label { display: block; margin: 1rem 0 .2rem; }
input { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; border: 1px solid #8a96a3;
  border-radius: 4px; }
button { font: inherit; margin-top: 1.2rem; padding: .5rem 1.2rem; border: 0; border-radius: 4px; color: #fff;
  background: #2b4bb0; }
button:disabled { opacity: .5; }
#said { color: #a1261b; min-height: 1.5em; }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e4e8ec; } input { background: #1e242b;
  color: inherit; } #said { color: #ff9d93; } }
"""
_PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Moongate: sign in</title>
<style>{_STYLE}</style></head>
<body>
<h1>Moongate</h1>
<p id="what">Sign in with your account.</p>
<form id="form">
<label for="name">Name</label><input id="name" autocomplete="username" required maxlength="128">
<label for="password">Password</label>
<input id="password" type="password" autocomplete="current-password" required maxlength="1024">
<button id="send">Sign in</button>
</form>
<p id="said" role="alert"></p>
<p id="next" hidden>The API is described by <a href="/api/v1/openapi.json">its OpenAPI document</a>. On the command
line, <code>moongate instance</code>, <code>moongate user</code> and <code>moongate token</code> do the same.</p>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hash(_SCRIPT)}",
        f"style-src {_hash(_STYLE)}",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)


@router.get("/")
@router.get("/sign-in")
def sign_in_page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})
