"""The frozen vocabulary that all rooms share; it imports nothing of Moongate but `errors`.

`snapshot`: what was configured (Snapshot, Bind, Listener, Route, Target, PolicyConfig, Limits). `principal`: who is
calling. `exchange`: one request's story, filled in while it happens.
"""
