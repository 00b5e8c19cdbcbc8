"""Makes the experiments of the lecture's table and fills it with them and with what was measured.

Not modelled: experiments whose result depends on the machine.
"""

from collections.abc import Callable, Mapping

from launcher.code_size import code_size
from launcher.compare_order import order_of
from launcher.compare_result import Lecture, WayResult
from launcher.compare_ways import METHODS
from launcher.experiments import find_out
from launcher.forkclient import ROLES
from launcher.lecture import make_lecture


def lecture_of(
    ways: Mapping[str, WayResult], told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> Lecture:
    """Return the table. Raises ConfigError where this machine is too small for an experiment."""
    findings = find_out(lambda what: told(f"experiments: {what}"), roles)
    return make_lecture(ways, order_of(ways), findings, {method: code_size(method) for method in METHODS})
