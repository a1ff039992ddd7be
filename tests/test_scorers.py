"""Which texts answer which references."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdllm import registry
from fdllm.component import SettingError, build
from fdllm.scorers.base import Scorer
from fdllm.scorers.contains import Contains
from fdllm.scorers.last_number import LastNumber, number_of
from fdllm.scorers.python_tests import PythonTests, code_of, program
from fdllm.scorers.regex import Regex
from fdllm.testing import check_scorer

# a scorer's settings, a reference, a text that answers it, and how many texts the laws try
LAWS = {
    "last-number": ({}, "1,234", "It is $1234.0.", 200),
    "regex": ({"pattern": r"answer: (\w+)"}, "blue", "answer: blue", 200),
    "contains": ({"ignore_case": True}, "Paris", "it is PARIS", 200),
    "python-tests": ({"seconds": 5.0}, "assert f(2) == 3", "def f(x):\n    return x + 1\n", 15),
}


OWN = sorted(name for name, entry in registry.names("scorers").items() if entry.module_name.startswith("fdllm."))


@pytest.mark.parametrize("name", OWN)
def test_laws(name):
    settings, reference, answer, texts = LAWS[name]
    check_scorer(build("scorers", {"name": name, **settings}, Scorer, "scorer"), reference, answer, texts)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("12+7=19 plums, so she has 19.", "19"),
        ("It costs $1,234.50 in all.", "1234.50"),
        ("**1,000,000**", "1000000"),
        ("-5", "-5"),
        ("x = -5", "-5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("-1,234", "-1234"),
        ("12-5", "5"),
        ("f(3)-2", "2"),
        ("10 - 4", "4"),
        ("3,4", "4"),
        ("1,2345", "2345"),
        ("a half is .5", ".5"),
        ("5.", "5"),
        ("50%", "50"),
        ("#### 18", "18"),
        ("so 9*2=18\n#### 18\n\nQuestion: 7", "18"),
        ("5 #### 7 #### 8", "7"),
        ("####  $1,200 and 3", "1200"),
        ("#### -3", "-3"),
        ("#### 12,", "12"),
    ],
)
def test_numbers(text, number):
    assert number_of(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "none", "#### x 3", "7 ####", "#### the answer is 3", "-", "$", ".", "#### .", "\u0663"]
)
def test_no_numbers(text):
    assert number_of(text) is None and not LastNumber().right(text, "3")


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9),
    st.text("ab \n,.;:"),
)
def test_however_a_number_is_written(number, around):
    for written in (
        f"{number:f}",
        f"{number:,f}",
        f"{number:f}00",
        f"$ {number:f}",
        f"so 3 and\n{number:,f}.",
        f"{number:,f}, so",
    ):
        assert number_of(written) == number
    assert number_of(f"1{around} {number:f} {around}") == number
    assert number_of(f"{around} 1 #### {number:,f} {around} 2") == number


def test_numbers_are_compared_exactly():
    assert LastNumber().right("0.30", "0.3") and not LastNumber().right("0.3000000000000000001", "0.3")
    assert LastNumber().right("2\n#### 3", "worked out to 9\n#### 3.0")


@pytest.mark.parametrize(
    ("pattern", "text", "reference", "right"),
    [
        (r"answer is (\w+)", "the answer is B, the answer is C", "B", True),
        (r"answer is (\w+)", "the answer is B, the answer is C", "C", False),
        (r"answer is (\w+)", "no answer", "B", False),
        (r"answer is(.*)", "answer is  B \n", " B ", True),
        (r"[A-D]", "x C", "C", True),
        (r"[A-D]", "x C", "x C", False),
        (r"(?i)[a-d]", "x C", "C", True),
        (r"yes|no (\w+)", "yes", "yes", False),
        (r"(a)(b)", "ab", "a", True),
    ],
)
def test_regex(pattern, text, reference, right):
    assert Regex(pattern=pattern).right(text, reference) is right


def test_contains():
    assert Contains().right("It is Paris.", "Paris") and not Contains().right("It is paris.", "Paris")
    assert Contains(ignore_case=True).right("STRASSE", "stra\u00dfe")
    assert not Contains(ignore_case=True).right("London", "Paris")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1\n", "x = 1\n"),
        ("    return 1\n", "    return 1\n"),
        ("", ""),
        ("Sure:\n```python\nx = 1\n```\nThat is it.\n```python\ny = 2\n```", "x = 1\n"),
        ("```\nno\n```\n```py\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1", "x = 1"),
        ("Here\n```\nx = 1\n```\nbye", "x = 1\n"),
        ("  ```python3\nx = 1\n  ```", "x = 1\n"),
        ("x = 1\n```\nThat is it.", "x = 1\n"),
        ("```\nx = 1", "x = 1"),
        ("```bash\nls\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("s = '```python'\n", "s = '```python'\n"),
    ],
)
def test_code_in_a_text(text, code):
    assert code_of(text) == code


def test_where_the_code_stands():
    assert program("x = 1", "assert x == 1") == "x = 1\n\nassert x == 1"
    reference = "def f(x):\n    '''Add.'''\n# completion\n\ndef check(g):\n    assert g(1) == 2\n\ncheck(f)\n"
    assert program("    return x + 1", reference) == reference.replace("# completion", "    return x + 1\n", 1)
    assert program(r"s = '\1\n'", "# completion\npass").startswith(r"s = '\1\n'")


COMPLETED = """def f(x):
    '''Add one.'''
# completion
def check(g):
    assert g(1) == 2
    assert g(-1) == 0
check(f)
"""


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("    return x + 1\n", COMPLETED, True),
        ("    return x - 1\n", COMPLETED, False),
        ("    return 2\n", COMPLETED, False),
        ("```python\ndef f(x):\n    return 1 + x\n```", COMPLETED, True),
        ("    return (", COMPLETED, False),
        ("    raise SystemExit(0)\n", COMPLETED, False),
        ("    import os; os._exit(0)\n", COMPLETED, False),
        ("    while True: pass\n", COMPLETED, False),
        ("    return len(bytes(2**40))\n", COMPLETED, False),
        ("", COMPLETED, False),
        ("def f(x): return x", "assert f(1) == 1", True),
        ("def g(x): return x", "assert f(1) == 1", False),
    ],
)
def test_python_tests(text, reference, right):
    assert PythonTests(seconds=2.0, memory_mb=256).right(text, reference) is right


@pytest.mark.parametrize(
    ("scorer", "reference", "message"),
    [
        (LastNumber(), "none", "last-number wants a number, such as 42 or '#### 42', got 'none'"),
        (LastNumber(), "1e-05", "last-number wants a number, such as 42 or '#### 42', got '1e-05'"),
        (Contains(), "", "contains wants a text to look for, got ''"),
        (PythonTests(), " \n", r"python-tests wants a program that tests, got ' \\n'"),
        (PythonTests(), "# completion\n", r"python-tests wants a program that tests, got '# completion\\n'"),
    ],
)
def test_references_that_nothing_answers(scorer, reference, message):
    with pytest.raises(ValueError, match=message):
        scorer.check(reference)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"name": "regex"}, "scorer.pattern: required, add it"),
        ({"name": "regex", "pattern": "("}, "scorer.pattern: no regular expression: missing ), unterm"),
        ({"name": "regex", "pattern": ""}, "scorer.pattern: String should have at least 1 character, got ''"),
        ({"name": "regex", "patern": "a"}, "scorer.patern: no such key; did you mean 'pattern'?"),
        ({"name": "contains", "ignore_case": 1}, "scorer.ignore_case: Input should be a valid boolean, got 1"),
        ({"name": "python-tests", "seconds": 0}, "scorer.seconds: Input should be greater than 0, got 0"),
        ({"name": "python-tests", "memory_mb": 8}, "scorer.memory_mb: Input should be greater than or equal to 64"),
        ({"name": "last-number", "digits": 3}, "scorer.digits: no such key; known keys: none"),
        ("last-numbr", "no scorer named 'last-numbr'; did you mean 'last-number'?"),
        ({"pattern": "a"}, "scorer: wanted a name, a table with 'name', or a Scorer, got {'pattern': 'a'}"),
    ],
)  # fmt: skip
def test_wrong_settings(given_, message):
    with pytest.raises(ValueError) as error:
        build("scorers", given_, Scorer, "scorer")
    assert message in str(error.value)
    assert isinstance(error.value, SettingError | registry.UnknownNameError)
