"""Which layers and heads can be compared."""

import pytest

from subl import ModelError, Shape
from subl.matching.map_settings import MapSettings
from subl.matching.shapes import head_faults, layer_faults, pair_layers, plan_both, uniform_layers

MISTRAL, GEMMA = Shape(32, 32, 8), Shape(18, 8, 1)


def test_layers_are_matched_evenly_and_last_on_last() -> None:
    one_based = [2, 4, 6, 8, 9, 11, 13, 15, 16, 18, 20, 22, 24, 25, 27, 29, 31, 32]
    assert uniform_layers(18, 32) == tuple(layer - 1 for layer in one_based)
    assert uniform_layers(3, 3) == (0, 1, 2)
    assert uniform_layers(4, 2) == (0, 0, 1, 1)


def test_the_smaller_number_of_heads_is_the_target_of_both() -> None:
    theirs, own = plan_both(MapSettings(), MISTRAL, GEMMA)
    assert (theirs.target, own.target) == (8, 8)
    theirs, own = plan_both(MapSettings(), GEMMA, MISTRAL)
    assert (theirs.heads, own.heads, own.target) == (8, 32, 8)


def test_faults_name_their_setting() -> None:
    settings = MapSettings(student_layers=(0, 18), teacher_layers=(32, 1), merge="joint")
    assert layer_faults(settings, MISTRAL, GEMMA) == {
        "student_layers": "student_layers asks for layer 18, but the student has 18, 0 to 17",
        "teacher_layers": "teacher_layers asks for layer 32, but the teacher has 32, 0 to 31",
    }
    assert head_faults(settings, MISTRAL, GEMMA) == {}
    assert "takes at most 8 heads into one" in head_faults(settings, MISTRAL, Shape(2, 2, 1))["merge"]
    with pytest.raises(ModelError, match="student_layers asks for layer 18"):
        pair_layers(settings, MISTRAL, GEMMA)
    assert pair_layers(MapSettings(student_layers=(17, 0)), MISTRAL, GEMMA) == ((17, 31), (0, 1))
