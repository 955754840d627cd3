"""Messages of one module in a captured log."""

import pytest


def messages_of(module: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What `module` logged in this test.

    Other modules may log at any time: a request to a store that an earlier test gave up is still retried in a thread.
    """
    return [each.getMessage() for each in caplog.records if each.name == module]
