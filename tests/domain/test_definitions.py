"""Which functions and classes differ between two versions of a program."""

import ast

from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.definitions import TOP_LEVEL, compare_definitions

PROGRAM = '''\
"""What it does."""
import os
LR = 0.1

class Model(Base):
    size: int = 1

    def forward(self, x):
        """Go forward."""
        return x  # as it is

    @property
    def width(self):
        return self.size

def train(steps=3): return steps
'''


def changed(old, new, program=PROGRAM):
    """Names that differ when one piece of the program is replaced."""
    assert old in program
    found = compare_definitions(program, program.replace(old, new))
    assert found is not None
    return found.changed


def test_each_piece_of_code_has_the_name_that_a_reader_would_give_it():
    """A method is named with its class, what stands beside the methods is the class's, the rest is the top level's."""
    assert changed("return x ", "return -x ") == ("Model.forward",)
    assert changed("size: int = 1", "size: int = 2") == ("Model",)
    assert changed("Model(Base)", "Model(Other)") == ("Model",)
    assert changed("import os", "import sys") == (TOP_LEVEL,)
    assert changed("@property", "@cached") == ("Model.width",)
    assert changed("steps=3", "steps=4") == ("train",)


def test_a_value_that_is_no_number_has_the_name_that_it_is_set_to():
    """A tuple, or a sum of others, is no constant that can be turned, but nobody would call it code."""
    program = PROGRAM + "BETAS = (0.9, 0.95)\nHALF = LR / 2\n"
    assert changed("(0.9, 0.95)", "(0.8, 0.95)", program) == ("BETAS",)
    found = compare_definitions(program, program.replace("LR / 2", "LR / 4").replace("return x ", "return -x "))
    assert found is not None
    assert found.settings == ("HALF",) and set(found.changed) == {"HALF", "Model.forward"}


def test_what_no_machine_runs_is_no_change():
    """Comments, docstrings and formatting are free; constants are counted elsewhere, new ones too."""
    for old, new in [
        ("# as it is", "# untouched"),
        ("Go forward.", "Go on."),
        ("What it does.", "Nothing."),
        ("LR = 0.1", "LR = 0.3\nNEW = 4"),
        ("return steps", "\\\n  return steps"),
    ]:
        assert changed(old, new) == ()


def test_a_renamed_function_is_one_gone_and_one_new():
    """Both names count as changed, and only the new one as added."""
    found = compare_definitions(PROGRAM, PROGRAM.replace("def train", "def fit"))
    assert found is not None
    assert set(found.changed) == {"train", "fit"} and found.added == ("fit",)


def test_words_are_those_of_the_code_that_differs():
    """A plan may name an argument or an attribute; those of untouched code are no evidence."""
    found = compare_definitions(PROGRAM, PROGRAM.replace("return x ", "return self.gate(x, bias=1) "))
    assert found is not None
    assert {"gate", "bias", "x"} <= found.words and "steps" not in found.words


def test_a_program_that_does_not_parse_cannot_be_compared():
    """Then nobody can say what changed, and nothing is claimed."""
    assert compare_definitions(PROGRAM, "def (") is None


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=5), st.lists(st.sampled_from(["a", "b", "c"]), max_size=5))
def test_names_differ_exactly_when_programs_do(old, new):
    """Whatever is defined, in whatever number: no change is missed, and none invented."""
    before, after = ("".join(f"def {name}(): return {i}\n" for i, name in enumerate(names)) for names in (old, new))
    found = compare_definitions(before, after)
    assert found is not None
    by_name = [
        {name: [ast.dump(d) for d in ast.parse(text).body if getattr(d, "name", "") == name] for name in "abc"}
        for text in (before, after)
    ]
    assert set(found.changed) == {name for name in "abc" if by_name[0][name] != by_name[1][name]}
