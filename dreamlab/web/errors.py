"""What is refused over HTTP: errors with a message and a fix, each kind with its status."""

from dreamlab.core.errors import InputError


class WebError(InputError):
    """A request that is refused."""

    status: int = 400


class NotAllowedError(WebError):
    """The request shows no token or password, or a wrong one."""

    status = 401


class ForeignError(WebError):
    """The request comes from another site, or asks for a host that this is not."""

    status = 403


class NotFoundError(WebError):
    """There is no such run, file or model."""

    status = 404


class ConflictError(WebError):
    """The run is in a state in which that is not possible."""

    status = 409


class TooLargeError(WebError):
    """More bytes than are taken."""

    status = 413


class TooManyError(WebError):
    """The queue is full, or too many requests are open."""

    status = 429
