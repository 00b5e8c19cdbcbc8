"""What holds for all tests: an example may take as long as a busy machine needs for it, and Ctrl-C ends what
is started here even where the tests were started in a background that ignores it (POSIX sh, asynchronous
lists).
"""

import signal

from hypothesis import settings

settings.register_profile("virtbed", deadline=None, print_blob=True)
settings.load_profile("virtbed")
signal.signal(signal.SIGINT, signal.default_int_handler)
