"""The admin API: every route, over a real socket, on a real store."""
