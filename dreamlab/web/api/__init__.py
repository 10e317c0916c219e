"""The HTTP API, version 1: routes by subject over `web.service.Service`."""
