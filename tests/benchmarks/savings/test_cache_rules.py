"""The rules of providers' prompt caches."""

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.savings.cache_rules import (
    ANTHROPIC_MINIMUM,
    OPENAI_MINIMUM,
    OPENAI_STEP,
    CacheUse,
    PromptCache,
    common_prefix,
    openai_hits,
)

sizes = st.integers(0, 20_000)


@given(common=sizes)
def test_openai_reads_whole_steps_of_what_is_shared(common: int) -> None:
    """Never more than is shared, never part of a step, and never a step less than could be read."""
    hits = openai_hits(common)
    assert hits % OPENAI_STEP == 0
    assert hits <= common
    assert hits == 0 if common < OPENAI_MINIMUM else common - hits < OPENAI_STEP


@given(first=st.binary(max_size=300), second=st.binary(max_size=300), shared=st.binary(max_size=300))
def test_a_common_prefix_is_what_both_begin_with(first: bytes, second: bytes, shared: bytes) -> None:
    """A byte by byte comparison finds the same."""
    one, other = shared + first, shared + second
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    assert common_prefix(one, other) == len(list(alike))


@given(size=st.integers(OPENAI_MINIMUM, 9_000), more=st.integers(0, 3_000))
def test_a_prompt_that_grows_reads_what_was_there(size: int, more: int) -> None:
    """OpenAI reads the whole steps of the earlier prompt, and is paid nothing for writing."""
    cache = PromptCache("openai")
    assert cache.take(b"a" * size, stable=size) == CacheUse(0, 0)
    assert cache.take(b"a" * size + b"b" * more, stable=size + more) == CacheUse(size - size % OPENAI_STEP, 0)


@given(size=st.integers(OPENAI_MINIMUM, 9_000))
def test_a_clock_at_the_head_reads_nothing(size: int) -> None:
    """The first byte differs, so nothing is shared."""
    cache = PromptCache("azure")
    cache.take(b"1" + b"a" * size, stable=size)
    assert cache.take(b"2" + b"a" * size, stable=size) == CacheUse(0, 0)


@given(growth=st.lists(st.integers(1, 2_000), min_size=1, max_size=8))
def test_anthropic_writes_each_stable_byte_once(growth: list[int]) -> None:
    """What was written is read by the next prompt, and reads and writes add up to the stable part."""
    cache, prompt, written = PromptCache("anthropic"), b"a" * ANTHROPIC_MINIMUM, 0
    for more in growth:
        prompt += b"b" * more
        use = cache.take(prompt + b"12:00", stable=len(prompt))
        assert use.read == written
        assert use.read + use.written == len(prompt)
        written += use.written


@given(size=st.integers(0, ANTHROPIC_MINIMUM - 1))
def test_anthropic_caches_nothing_below_its_minimum(size: int) -> None:
    """Neither a write nor a read is billed."""
    cache = PromptCache("anthropic")
    assert {cache.take(b"a" * size, stable=size) for _ in range(2)} == {CacheUse(0, 0)}
