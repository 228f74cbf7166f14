"""The admin app on its own port: the REST API, and what monitoring reads.

- `app`: all of it put together. `services`: what the routes are given; `live`: what the gateway itself answers.
- `gate`: what every request passes first (host, other sites' pages, size), and what every answer carries.
- `guard`: who asks, and with which role; `signin`: how one gets in. `operators`: accounts and API keys.
- `instances`, `users`, `tokens`, `access`, `audit`, `platform`: the resources, thin over the services of
  `control.platform` and over `audit`.
- `link`: this process's end of the pair that joins it to the gateway. `queries`: what several routes take.
- The pages: `frame` is what they have in common, `assets` their style and scripts, `forms` what is sent from them.
  `page` signs in and shows what is served; `explaining` explains requests, `recorded` those that were made; `verdicts`
  has the words for both.
- `problems`: the one shape of errors. `document`: the OpenAPI document. `health`, `metrics`: for monitoring.
"""
