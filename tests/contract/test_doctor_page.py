"""docs/doctor.md lists the doctor's looks, and the codes are nobody else's."""

import re
from pathlib import Path

from reconciler import advice
from reconciler.config import codes as config_codes
from reconciler.diagnosis import codes

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def list_codes(module):
    return [v for v in vars(module).values() if isinstance(v, str) and re.fullmatch(r"XLB\d+", v)]


def test_every_look_has_its_row_in_order():
    rows = re.findall(r"^\| (XLB\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == list_codes(codes)
    assert rows == sorted(rows)


def test_a_code_has_one_meaning():
    known = [code for module in (codes, advice, config_codes) for code in list_codes(module)]
    assert len(known) == len(set(known))
