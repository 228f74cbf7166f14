"""Everything that shows Moongate does what it says.

`architecture/` holds the code to its own rules, `requirements/` knows the acceptance lines and which tests prove them,
`node/` pins the npm programs that tests talk to; the other folders mirror the packages below `src/moongate/`.
"""
