# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration texts: read, overlaid, held against what survived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.recipe.kconfig import (
    BadLine,
    Dropped,
    Fragment,
    KconfigRecipe,
    config_digest,
    dropped,
    merge,
    parse,
)

CONFIG = """\
#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.12.0 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="clang version 22.1.8"
CONFIG_64BIT=y
# CONFIG_MODULES is not set
CONFIG_KUNIT=m
CONFIG_NR_CPUS=64
CONFIG_PHYSICAL_START=0x1000000
CONFIG_CMDLINE="a \\"quoted\\" # word"

  CONFIG_EMPTY=""
CONFIG_BARE_HEX=1f
"""

symbols = st.from_regex(r"[A-Z0-9_]{1,8}", fullmatch=True)
values = st.one_of(
    st.sampled_from(["y", "m", "n"]),
    st.integers(-(2**31), 2**63).map(str),
    st.integers(0, 2**64).map(hex),
    st.from_regex(r'"([^"\\\n\r]|\\["\\])*"', fullmatch=True),
)
lines = st.builds(
    lambda symbol, value: f"CONFIG_{symbol}={value}", symbols, values.filter(str.isprintable)
)
texts = st.lists(lines, max_size=8).map("\n".join)


def test_every_form_of_value_is_read() -> None:
    config = parse(CONFIG, ".config")
    assert config.errors == ()
    assert list(config.values.items()) == [
        ("CC_VERSION_TEXT", '"clang version 22.1.8"'),
        ("64BIT", "y"),
        ("MODULES", "n"),
        ("KUNIT", "m"),
        ("NR_CPUS", "64"),
        ("PHYSICAL_START", "0x1000000"),
        ("CMDLINE", r'"a \"quoted\" # word"'),
        ("EMPTY", '""'),
        ("BARE_HEX", "1f"),
    ]


def test_windows_line_ends_do_no_harm() -> None:
    assert parse(CONFIG.replace("\n", "\r\n"), ".config") == parse(CONFIG, ".config")


@pytest.mark.parametrize(
    "bad",
    [
        "CONFIG_X",
        "CONFIG_X=",
        "CONFIG_X=Y",
        "CONFIG_X=yes",
        "CONFIG_X=0x",
        'CONFIG_X="open',
        'CONFIG_X="a" b',
        "CONFIG_X=y # why",
        "CONFIG-X=y",
        "X=y",
        "CONFIG_X =y",
        "<<<<<<< HEAD",
    ],
)
def test_bad_lines_are_named_and_do_not_stop_the_rest(bad: str) -> None:
    config = parse(f"CONFIG_A=y\n\n{bad}\nCONFIG_B=y\n", "extra.config")
    assert list(config.values) == ["A", "B"]
    (error,) = config.errors
    assert isinstance(error, BadLine)
    assert (error.file, error.line, error.text) == ("extra.config", 3, bad)
    assert str(error).startswith("extra.config:3: ")


def test_the_last_assignment_wins_and_stands_last() -> None:
    base = "CONFIG_A=y\nCONFIG_B=y\n"
    fragments = (Fragment(name="1", text="# CONFIG_A is not set"), Fragment(name="2", text="oops"))
    assert merge(base, fragments) == "CONFIG_B=y\n# CONFIG_A is not set\n"


def test_what_did_not_survive_is_reported() -> None:
    asked = parse(
        'CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=0x0F\nCONFIG_E="x"\nCONFIG_F=y\n'
        "# CONFIG_G is not set\n",
        "asked",
    ).values
    survived = parse(
        'CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=0xf\nCONFIG_E="y"\nCONFIG_G=y\n', ".config"
    ).values
    assert dropped(asked, survived) == [
        Dropped(symbol="B", asked="m", got="y"),
        Dropped(symbol="E", asked='"x"', got='"y"'),
        Dropped(symbol="F", asked="y", got="n"),
        Dropped(symbol="G", asked="n", got="y"),
    ]


def test_comments_do_not_count_in_the_digest_but_unset_symbols_do() -> None:
    other_kernel = CONFIG.replace("6.12.0", "6.13.0").replace("\n\n", "\n# Options\n")
    assert config_digest(other_kernel) == config_digest(CONFIG)
    set_now = CONFIG.replace("# CONFIG_MODULES is not set", "# CONFIG_MODULES was not set")
    assert config_digest(set_now) != config_digest(CONFIG)


def test_a_recipe_is_known_by_what_it_asks_for() -> None:
    recipe = KconfigRecipe(base="tinyconfig", fragments=(Fragment(name="a", text="CONFIG_A=y"),))
    renamed = KconfigRecipe(
        base="tinyconfig", fragments=(Fragment(name="b", text="# why\nCONFIG_A=y\n"),)
    )
    assert recipe.digest == renamed.digest
    others = {
        KconfigRecipe(base="defconfig", fragments=recipe.fragments).digest,
        KconfigRecipe(base="tinyconfig", fragments=()).digest,
        KconfigRecipe(base=Fragment(name="c", text="tinyconfig"), fragments=()).digest,
        KconfigRecipe(base="tinyconfig", fragments=recipe.fragments * 2).digest,
    }
    assert len(others) == 4
    assert recipe.digest not in others


def test_a_recipe_tells_its_errors_and_what_it_asks() -> None:
    recipe = KconfigRecipe(
        base=Fragment(name="base.config", text="CONFIG_A=?"),
        fragments=(Fragment(name="one", text="CONFIG_B=y"), Fragment(name="two", text="b\na")),
    )
    assert [(error.file, error.line) for error in recipe.errors] == [
        ("base.config", 1),
        ("two", 1),
        ("two", 2),
    ]
    assert recipe.asked == {"B": "y"}


@pytest.mark.parametrize("target", ["", "-j64 defconfig", "O=/tmp config", "clean", "a/../config"])
def test_a_base_must_be_a_configuration_target(target: str) -> None:
    with pytest.raises(ValueError, match="no configuration target"):
        KconfigRecipe(base=target, fragments=())


@given(st.text(max_size=300))
def test_hostile_text_never_raises_and_no_line_is_lost(text: str) -> None:
    config = parse(text, "hostile")
    said = [line.strip() for line in text.split("\n") if line.strip()]
    comments = sum(line.startswith("#") for line in said)
    assert len(config.errors) >= len(said) - comments - len(config.values)
    assert len(config_digest(text)) == 64


@given(texts, st.lists(texts, max_size=3))
def test_merging_is_the_same_as_reading_one_after_the_other(base: str, more: list[str]) -> None:
    fragments = [Fragment(name=str(number), text=text) for number, text in enumerate(more)]
    merged = merge(base, fragments)
    assert merged == merge(base, fragments)
    assert merge(merged, []) == merged
    read = parse(merged, "merged")
    assert read.errors == ()
    assert list(read.values.items()) == list(parse("\n".join([base, *more]), "all").values.items())
    assert dropped(read.values, read.values) == []
