"""The list prices of the recorded models, by genai-prices."""

from dataclasses import dataclass

from benchmarks.savings.records import Question
from bursar.nodes.gateway.prices import price_of
from bursar.state.rules.pricing import PricedModel, Usage

# The two models whose answers were recorded: Mixtral 8x7B at its maker's price, and the GPT-4 of November 2023.
CHEAP = ("mistral", "open-mixtral-8x7b")
DEAR = ("openai", "gpt-4-1106-preview")


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of the cheap and of the dear model."""

    cheap: PricedModel
    dear: PricedModel

    @classmethod
    def listed(cls) -> "Prices":
        """Return the list prices. Raises `UnknownPrice` if genai-prices does not know the models."""
        return cls(price_of(CHEAP[1], CHEAP[0]), price_of(DEAR[1], DEAR[0]))

    def difference(self, question: Question) -> int:
        """Return how much more the dear model's answer costs, in nano-dollars."""
        dear = self.dear.cost(Usage(question.input_tokens, question.dear_tokens))
        return dear - self.cheap.cost(Usage(question.input_tokens, question.cheap_tokens))
