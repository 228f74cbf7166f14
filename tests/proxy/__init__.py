"""The request path, seen from both its ends: a raw client in front, a scripted backend behind."""
