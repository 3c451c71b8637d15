"""The check of worked answers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.savings.answer_check import evaluate, final_number, grade, is_right, number

ANSWER = "He runs 3*60=<<3*60=180>>180 meters.\nThat is 180*3=<<180*3=540>>540 meters.\n#### 540"
QUESTION = "He runs 3 sprints of 60 meters, 3 times a week. How many meters is that?"
whole = st.integers(0, 10_000)


@given(a=whole, b=whole, c=st.integers(1, 10_000))
def test_arithmetic_is_exact(a: int, b: int, c: int) -> None:
    """Sums, differences, products and quotients have the value of fractions."""
    assert evaluate(f"({a}+{b})*{c}-{b}/{c}") == Fraction((a + b) * c) - Fraction(b, c)


@given(a=whole, b=whole, off=st.integers(1, 1_000_000))
def test_a_wrong_equation_is_found_and_a_right_one_passes(a: int, b: int, off: int) -> None:
    """Beyond rounding by a hundredth."""
    assert is_right(f"{a}*{b}", str(a * b)) is True
    assert is_right(f"{a}*{b}", str(a * b + a * b // 10 + off)) is False


@pytest.mark.parametrize("text", ["__import__('os')", "9**9**9", "x+1", "1/0", "", "(1", "1" * 500, "1<2", "f(2)"])
def test_what_is_no_arithmetic_has_no_value(text: str) -> None:
    """Nothing is run, and nothing large is computed."""
    assert evaluate(text) is None


def test_numbers_are_read_as_people_write_them() -> None:
    """With commas, dollars and decimals."""
    assert number("$1,234.50") == Fraction("1234.5")
    assert final_number("…\n#### $1,200") == 1200
    assert final_number("15 + 25 = <<15+2") is None


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (ANSWER, "sound"),
        (ANSWER.replace("=180>>", "=190>>"), "wrong"),
        (ANSWER.replace("#### 540", "#### 541"), "apart"),
        (ANSWER.removesuffix("#### 540"), "cut"),
        ("It is 540.\n#### 540", "bare"),
    ],
)
def test_the_form_of_an_answer(answer: str, form: str) -> None:
    """A sound answer has right equations, and ends with the result of the last one."""
    assert grade(QUESTION, answer)[0] == form


def test_the_grade_says_what_an_answer_left_unused() -> None:
    """A number of the question that the answer never names is unused."""
    assert "unused 0" in grade(QUESTION, ANSWER)
    assert "unused 1" in grade(QUESTION + " He has 17 shoes.", ANSWER)


@given(question=st.text(max_size=200), answer=st.text(max_size=200))
def test_any_text_has_a_grade(question: str, answer: str) -> None:
    """A model may write anything."""
    assert len(grade(question, answer)) == len(grade(QUESTION, ANSWER))
