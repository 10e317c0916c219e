"""The product around the jobs: one server for the page and the HTTP API, and a client. No torch."""
