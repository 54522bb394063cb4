"""Collectives read from the text of optimised HLO: kinds, bytes, loops, and what is told again in each turn."""

from __future__ import annotations

import pytest

from impl.sharding.collectives import Collective, read_collectives

TEXT = """HloModule jit_step, is_scheduled=true

%inner (p: f32[3]) -> f32[6] {
  %p = f32[3]{0} parameter(0)
  ROOT %called = f32[6]{0} all-gather(%p), channel_id=9, dimensions={0}
}

%body (state: (s32[], f32[5,4], bf16[4,2])) -> (s32[], f32[5,4], bf16[4,2]) {
  %state = (s32[], f32[5,4]{1,0}, /*index=2*/bf16[4,2]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %sum = f32[5,4]{1,0} get-tuple-element(%state), index=1
  %weight = bf16[4,2]{1,0} get-tuple-element(%state), index=2
  %turned = bf16[2,4]{1,0} fusion(%weight), kind=kLoop, calls=%inner
  %told_again = bf16[2,8]{1,0} all-gather(%turned), channel_id=1, dimensions={1}
  %told_anew = f32[5,4]{1,0} all-reduce(%sum), channel_id=2, to_apply=%add
  %next = s32[] add(%turn, %turn)
  %kept = bf16[4,2]{1,0} copy(%weight)
  ROOT %out = (s32[], f32[5,4]{1,0}, bf16[4,2]{1,0}) tuple(%next, %told_anew, %kept)
}

%goes_on (state.1: (s32[], f32[5,4], bf16[4,2])) -> pred[] {
  %state.1 = (s32[], f32[5,4]{1,0}, bf16[4,2]{1,0}) parameter(0)
  %turn.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%turn.1, %turn.1), direction=LT
}

ENTRY %main (a: f32[5,4]) -> f32[10,4] {
  %a = f32[5,4]{1,0} parameter(0), metadata={op_name="all-gather(%no)"}
  %start = (s32[], f32[5,4]{1,0}, bf16[4,2]{1,0}) custom-call(%a)
  %loop = (s32[], f32[5,4]{1,0}, bf16[4,2]{1,0}) while(%start), condition=%goes_on, body=%body
  %first = f32[5,4]{1,0} get-tuple-element(%loop), index=1
  %begun = (f32[5,4]{1,0}, f32[10,4]{1,0}) all-gather-start(%first), channel_id=3, dimensions={0}
  %pair = (f32[2]{0}, pred[3]{0}) all-to-all(%a, %a), channel_id=4
  ROOT %done = f32[10,4]{1,0} all-gather-done(%begun)
}
"""


def test_kinds_bytes_and_loops_are_told():
    assert read_collectives(TEXT) == (
        Collective("all-gather", ((6,),), 24, True, False),
        Collective("all-gather", ((2, 8),), 32, True, True),
        Collective("all-reduce", ((5, 4),), 80, True, False),
        Collective("all-gather", ((10, 4),), 160, False, False),
        Collective("all-to-all", ((2,), (3,)), 11, False, False),
    )


def test_what_a_loop_replaces_is_told_anew():
    replaced = TEXT.replace("tuple(%next, %told_anew, %kept)", "tuple(%next, %told_anew, %changed)")
    replaced = replaced.replace("%kept = bf16[4,2]{1,0} copy", "%changed = bf16[4,2]{1,0} negate")
    assert not any(each.repeated for each in read_collectives(replaced))


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        read_collectives("module @jit_step { }")
