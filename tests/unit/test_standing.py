import pytest

from reconciler.health.standing import Result, Standing, judge, judge_once, resume
from reconciler.model import Health

HEALTH = Health(rise=2, fall=3)
PASS = Result(True, "HTTP 200", 0.01)
FAIL = Result(False, "connection refused", 0.01)


def follow(results, standing=None, health=HEALTH):
    """Judge results that come a second apart, from second 100 on."""
    for second, result in enumerate(results, start=100):
        standing = judge(standing, result, health, second)
    return standing


def test_a_backend_that_passes_is_up_since_its_first_check():
    assert follow([PASS, PASS]) == Standing(True, 100, 0, "HTTP 200", 0)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_backend_that_was_never_checked_is_up_until_enough_have_failed(failures):
    standing = follow([FAIL] * failures)
    assert standing == Standing(True, 100, failures, "connection refused", 0)


def test_it_is_down_when_fall_in_a_row_have_failed():
    assert follow([FAIL] * 3) == Standing(False, 102, 0, "connection refused", 1)


def test_it_is_up_again_when_rise_in_a_row_have_passed():
    standing = follow([FAIL] * 3 + [PASS])
    assert (standing.is_up, standing.streak, standing.since) == (False, 1, 102)
    assert follow([FAIL] * 3 + [PASS] * 2) == Standing(True, 104, 0, "HTTP 200", 2)


def test_a_flap_starts_the_count_again():
    assert follow([FAIL, FAIL, PASS] * 20).is_up
    assert follow([FAIL, FAIL, PASS] * 20).transitions == 0
    assert not follow([FAIL] * 3 + [PASS, FAIL] * 20).is_up


def test_one_is_enough_where_the_file_says_so():
    health = Health(rise=1, fall=1)
    assert follow([FAIL], health=health) == Standing(False, 100, 0, "connection refused", 1)
    assert follow([FAIL, PASS], health=health).is_up


def test_what_was_known_stays_until_checks_say_otherwise():
    down = Standing(False, 50.0, 1, "timeout after 1s", 7, "10.0.0.11:80")
    standing = follow([FAIL, PASS], resume(down))
    assert standing == Standing(False, 50.0, 1, "HTTP 200", 7, "10.0.0.11:80")
    assert follow([PASS, PASS], resume(down)) == Standing(
        True, 101, 0, "HTTP 200", 8, "10.0.0.11:80"
    )


def test_results_before_a_pause_are_not_next_to_those_after_it():
    assert resume(follow([FAIL, FAIL])).streak == 0
    assert judge(resume(follow([FAIL, FAIL])), FAIL, HEALTH, 200).is_up


def test_one_result_alone_decides_where_there_is_no_other():
    assert judge_once(FAIL, 5.0) == Standing(False, 5.0, 0, "connection refused", 0)
    assert judge_once(PASS, 5.0).is_up
