"""The example questions: complete, distinct, and read once."""

from collections import Counter

from bursar.genie.examples import candidates, descriptions, examples, out_of_scope

AGENTS = {
    "account_analysis",
    "fraud_detection",
    "risk_assessment",
    "investment_recommendation",
    "tax_optimisation",
    "database_connector",
}


def test_every_routed_agent_has_a_description_and_enough_examples() -> None:
    """Every routed agent is described in one line and has at least thirty distinct examples."""
    assert set(examples()) == set(descriptions()) == AGENTS
    for name, asked in examples().items():
        assert len(set(asked)) == len(asked) >= 30, name
        assert descriptions()[name]
        assert "\n" not in descriptions()[name]


def test_the_gates_are_not_routed() -> None:
    """The compliance checker gates every plan; no question chooses it."""
    assert "compliance_checker" not in examples()
    assert "out_of_scope" not in examples()


def test_no_question_is_taught_to_two_agents_or_as_out_of_scope() -> None:
    """Each example teaches one thing: a question with two labels would split its probability."""
    taught = Counter([*out_of_scope(), *(text for asked in examples().values() for text in asked)])
    assert [text for text, times in taught.items() if times > 1] == []


def test_candidates_carry_the_records() -> None:
    """The router's view of the agents is made of their descriptions and examples."""
    for candidate in candidates():
        assert candidate.description == descriptions()[candidate.name]
        assert candidate.examples == examples()[candidate.name]
    assert len(candidates()) == len(AGENTS)
