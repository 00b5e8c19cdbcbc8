"""`virtbed why` with real processes: each problem is there, and its cure cures it."""

import pytest

from launcher.why import look
from launcher.why_cases import CASES, Case

pytestmark = pytest.mark.usefixtures("run_parent")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_problem_is_there_and_the_cure_cures_it(case: Case) -> None:
    told: list[str] = []
    seen = look(case, 0.3, told.append)
    assert seen.holds, (seen.unsafe, seen.fixed)
    assert len(told) == 2
