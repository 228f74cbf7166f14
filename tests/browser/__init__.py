"""A real Chromium against a real gateway: what pages can do, and what they cannot.

`chrome.py` starts Chromium (Debian's, by Selenium), `pages.py` bundles and serves a page on names of other origins,
`page.mjs` is that page: it holds the official TypeScript SDK, does what it is told and writes down what happened.
`stage.py` starts the servers and gateways. Names such as `friend.test` exist only inside that Chromium: it finds them
all on this machine. Pictures of all pages are left in `.build/browser`.
"""
