"""Claims about addresses."""

from dreamlab.core.addresses import is_loopback


def test_what_is_loopback_is_decided_by_the_address():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "LOCALHOST"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "", "localhost.evil.example"]))
