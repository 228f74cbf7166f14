"""Real servers that speak stdio, as people install them, hosted by a real gateway process.

- household: the servers, what each needs (a git repository, a web page, a directory), and the gateway in front of them
- monitoring: a Prometheus that watches itself, and the `docker` of a machine that has none
- article.yaml: a configuration as it was printed in an article
- test_servers: official clients find the same by every door as when they start the server themselves
- test_prometheus: prometheus-mcp-server brings real figures to remote clients
"""
