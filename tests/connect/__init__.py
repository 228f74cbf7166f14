"""`moongate connect`: the stdio door to a server."""
