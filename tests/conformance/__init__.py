"""The official MCP conformance suite, run against a server of ours directly and through the gateway.

Nothing may be lost on the way: each check must end the same both times. Behind the gateway the server speaks streamable
HTTP, HTTP+SSE or stdio.

    everything/    the server under test, on the official Python SDK
    client         an SDK client, for the scenarios in which the suite is the server
    suite          runs the suite
    results        reads what it found
    processes      starts the server and the gateway, and ends them
    compare        the difference between two runs, check by check
    baseline.yml   differences that are allowed, each with its reason; over streamable HTTP there is none
    __main__       `python -m tests.conformance`: all runs for both revisions as a table
"""
