"""A deterministic check of a worked answer: are its equations right, does it end with a number, did it use all it got?

The answers write each step as `<<3*60=180>>` and end with `#### 540`.
"""

import ast
import re
from collections.abc import Callable
from fractions import Fraction

_EQUATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
_FINAL = re.compile(r"####\s*\$?\s*(-?\d[\d,]*(?:\.\d+)?)")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_SHARES = re.compile(r"%|\bpercent|\bhalf\b|\btwice\b|\bthird\b|\bquarter|\d/\d|\btimes\b", re.IGNORECASE)
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
}
TOLERANCE = Fraction(1, 100)  # answers round to cents
MOST_CHARACTERS = 200  # of one side of an equation
MOST_UNUSED = 2  # more unused numbers count as two
ANSWER_STEP, QUESTION_STEP = 150, 120  # characters


def final_number(answer: str) -> Fraction | None:
    """Return the number with which the answer ends; None if it has none, such as an answer that was cut off."""
    found = _FINAL.search(answer)
    return None if found is None else number(found.group(1))


def number(text: str) -> Fraction | None:
    """Return the number that the text writes, with commas and a dollar sign; None if it writes no number."""
    try:
        return Fraction(text.replace(",", "").replace("$", "").strip())
    except (ValueError, ZeroDivisionError):
        return None


def evaluate(expression: str) -> Fraction | None:
    """Return the exact value of sums, differences, products and quotients; None if the text is anything else."""
    plain = expression.replace(",", "").replace("$", "").replace("%", "/100").strip()
    if not plain or len(plain) > MOST_CHARACTERS:
        return None
    try:
        return _value(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    raise ValueError("this is no arithmetic")


def is_right(left: str, right: str) -> bool | None:
    """Whether both sides of an equation are equal within a hundredth; None if one side is no arithmetic."""
    value, said = evaluate(left), number(right)
    if value is None or said is None:
        return None
    return abs(value - said) <= TOLERANCE * max(Fraction(1), abs(said))


def grade(question: str, answer: str) -> tuple[str, ...]:
    """Return what the check found, as words. Answers with the same words are alike to `learning`.

    The words say: the form (`cut`, `wrong`, `bare`, `apart`, `sound`), how many numbers of the question the answer
    leaves unused, whether the result is whole, whether it only repeats a number of the question, whether the question
    speaks of shares, and how long both are. Which words there are was chosen on the development half.
    """
    final, asked = final_number(answer), set(map(number, _NUMBER.findall(question)))
    used = set(map(number, _NUMBER.findall(answer)))
    return (
        _form(answer, final),
        f"unused {min(len(asked - used), MOST_UNUSED)}",
        "whole" if final is not None and final.denominator == 1 else "not whole",
        "repeated" if final in asked else "new",
        "shares" if _SHARES.search(question) else "no shares",
        f"answer {min(len(answer) // ANSWER_STEP, 4)}",
        f"question {min(len(question) // QUESTION_STEP, 3)}",
    )


def _form(answer: str, final: Fraction | None) -> str:
    equations = _EQUATION.findall(answer)
    if final is None:
        return "cut"
    if any(is_right(left, right) is False for left, right in equations):
        return "wrong"
    if not equations:
        return "bare"
    return "sound" if number(equations[-1][1]) == final else "apart"
