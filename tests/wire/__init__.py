"""The wire layer: framing under any split (hypothesis), deadlines, pools, TLS, back-pressure, draining."""
