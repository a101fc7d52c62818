"""For all tests: property tests take the time they need, because machines are shared and noisy; and programs hear the
signals that they are sent, also where the tests run in the background of a shell, which lets its children ignore some.
"""

import signal

from hypothesis import settings

for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _handler)

settings.register_profile("nanohost", deadline=None)
settings.load_profile("nanohost")
