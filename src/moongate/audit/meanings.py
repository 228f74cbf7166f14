"""What each class of failure means, and what an operator does about it. `docs/failures.md` says the same."""

from __future__ import annotations

from typing import NamedTuple

from moongate.errors import FailureClass


class Meaning(NamedTuple):
    """`what` happened, and what to `do` about it; whole sentences."""

    what: str
    do: str


MEANINGS: dict[FailureClass, Meaning] = {
    FailureClass.BAD_REQUEST: Meaning(
        "The request is not valid HTTP, JSON-RPC or MCP, or could be read in two ways.",
        "Read detail; it is the client that must change.",
    ),
    FailureClass.NOT_FOUND: Meaning(
        "No listener, route or address below it fits, or the session is unknown.",
        "Compare path with what moongate check prints. For sessions: nothing, the client starts anew. If all "
        "sessions ended at once, the key has changed.",
    ),
    FailureClass.TOO_LARGE: Meaning(
        "The request's body is over gateway.limits.bodyBytes.",
        "Raise the limit if such bodies are wanted.",
    ),
    FailureClass.UNSUPPORTED: Meaning(
        "Content type, content coding or method is not served.",
        "Read detail.",
    ),
    FailureClass.UNAUTHENTICATED: Meaning(
        "The token is missing, unknown, expired, or two differ.",
        "Compare with gateway.tokens; tokenHeader says where one was found.",
    ),
    FailureClass.DENIED: Meaning(
        "Host is not the gateway's, the page's origin may not call, the token is for other instances, or access rules "
        "do not let the caller.",
        "detail names the setting, see docs/access.md and docs/browsers.md. With status 204: a preflight that was not "
        "granted all it asked for.",
    ),
    FailureClass.RATE_LIMITED: Meaning(
        "More requests than localRateLimit allows this caller, or too many connections (503).",
        "detail names the caller and the limit. Raise it, or gateway.limits.connections, or find out who asks so much.",
    ),
    FailureClass.UPSTREAM_DNS: Meaning(
        "The backend's name does not resolve.",
        "Check the name in url, and the resolver of this machine.",
    ),
    FailureClass.UPSTREAM_CONNECT: Meaning(
        "No connection to the backend, or to the proxy before it.",
        "Is it running? Check address, port, firewall, HTTPS_PROXY and NO_PROXY.",
    ),
    FailureClass.UPSTREAM_TLS: Meaning(
        "The backend's certificate is not trusted, or the TLS handshake failed.",
        "Set tls.ca for an authority of your own; renew an expired certificate.",
    ),
    FailureClass.UPSTREAM_RESET: Meaning(
        "The backend closed the connection before its answer was complete.",
        "Look into the backend's log at that time.",
    ),
    FailureClass.UPSTREAM_PROTOCOL: Meaning(
        "The backend's answer is not HTTP, JSON-RPC or an event stream as it must be, or it redirects to elsewhere.",
        "Read detail; is url the MCP address itself?",
    ),
    FailureClass.UPSTREAM_TIMEOUT: Meaning(
        "Connecting, the first byte, silence in an answer, or an answer as a whole took too long.",
        "Raise timeout, sseReadTimeout or requestTimeout if the backend needs it, otherwise find out why it hangs.",
    ),
    FailureClass.UPSTREAM_HTTP: Meaning(
        "The backend answered with an error status.",
        "401 and 403 became 502: the gateway's credential for the backend is wrong. Other statuses are passed on "
        "as they came.",
    ),
    FailureClass.PROCESS_START: Meaning(
        "A hosted server could not be started, ended before it answered, or did not answer within startTime; or "
        "all maxProcesses are in use.",
        "detail has the reason, the exit code and the last lines of its standard error. Try the command by hand. "
        "After failures in a row the next start waits, up to 30 s.",
    ),
    FailureClass.PROCESS_EXIT: Meaning(
        "A hosted server ended during the call.",
        "detail has the exit code or signal and the last lines of its standard error. It is started again with the"
        " next session.",
    ),
    FailureClass.JSONRPC_ERROR: Meaning(
        "The backend answered the call with a JSON-RPC error; passed on unchanged.",
        "code is the error's code. Usually nothing to do at the gateway.",
    ),
    FailureClass.TOOL_ERROR: Meaning(
        "The tool reported an error (isError); passed on unchanged.",
        "The same.",
    ),
    FailureClass.CLIENT_CLOSED: Meaning(
        "The client went away before its answer was complete.",
        "Nobody got this status: the record has the backend's, or 0. Many of them: the client's own limit may be "
        "shorter than the backend needs.",
    ),
    FailureClass.INTERNAL: Meaning(
        "The gateway itself failed.",
        "The log has the trace under the request id: please report it.",
    ),
}
