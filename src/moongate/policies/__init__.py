"""May this happen, and changed how: one policy per file, with its options, its behaviour and its reasons.

`base`: what a policy is, and its verdict. `pipeline`: the ordered stages, each with the reason for its position.
`host`, `trust` (forwarding proxies), `cors`, `csrf`, `authn`: head policies, which see a request before its body is
read. `origins`: what the browser policies compare. `acl`: access rules, for heads and messages; `access_rules` are what
was configured of them, `cel` their conditions, `budget` what these may cost, `facts` and `arguments` what they see of a
call, `simple` and `checks` those that need no library. `rate`: how many requests a caller may make. `answers`:
redirects and fixed answers. `headers`: what is changed on the way.
"""
