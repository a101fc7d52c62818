import pytest

pytest.register_assert_rewrite("nanohost.testing.channel_suite")
