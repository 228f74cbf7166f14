"""The server that the official conformance suite is pointed at, directly and through the gateway.

Built on the official Python SDK. It has every tool, prompt and resource that the suite calls by name, for sessions (up
to 2025-11-25) and for stateless requests (2026-07-28) at one address. Reached directly it passes every required check,
so whatever fails through the gateway is the gateway's doing.

    material       the image, the sound and the texts that are handed out
    call           one tool call or prompt: arguments, progress, log messages
    offer          what the table of tools is made of
    asking         questions to the client, as requests in sessions and as `input_required` results in 2026-07-28
    tools          tools that answer by themselves
    interactive    tools that ask the client first
    prompts        prompts and completion
    resources      resources, templates and subscriptions
    events         the store that lets a client resume an event stream
    server         all of it as one SDK server
    __main__       the command line: `python -m tests.conformance.everything --port N`
"""
