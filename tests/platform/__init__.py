"""The two processes together: `moongate serve` with its store and its API, from outside."""
