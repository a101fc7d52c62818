import pytest

pytest.register_assert_rewrite("nanohost.testing.channel_suite", "nanohost.testing.simulator_suite")
