"""What the console, the API and the command line do with the store: one service for each kind of thing.

- `platform`: the facade that holds them all. `shapes`: what goes in and comes out, in REST form.
- `instances` with `judging` (the compiler's verdict) and `masks` (secrets go in and never come out); `users`, `tokens`,
  `access`: who may call what.
- `operators` with `passwords`, `api_keys`, `sign_ins`, `guesses`: who may change that.
- `settings`, `revisions` (the history of everything), `documents` (what the data plane gets), `transfer` (import and
  export).
- `roles`: what a role may do; `certificates`: files that an instance names; `size`: how much may be in force.
- `ground`: what all services stand on. `failures`: the ways in which they say no.
"""
