import pytest
import torch

from froster.backbones.blocks import Block
from froster.backbones.clip import Clip, ClipConfig
from froster.students import build_student
from froster.students.parts import WrappedBlock, WrappedText, cross_attention, frame_rows


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32, vocab_size=512))


def test_frame_rows_stretch_beyond_the_table() -> None:
    table = torch.tensor([[0.0, 3.0], [2.0, 1.0]])
    assert torch.equal(frame_rows(table, 1), table[:1])
    assert torch.equal(frame_rows(table, 2), table)
    torch.testing.assert_close(frame_rows(table, 3), torch.tensor([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0]]))


def test_a_block_is_taken_over_without_a_random_draw() -> None:
    block, state = Block(64, 2, "gelu"), torch.get_rng_state()
    taken = WrappedBlock(block)
    assert torch.equal(torch.get_rng_state(), state)
    names = dict(block.named_parameters())
    assert [(name, id(p)) for name, p in taken.named_parameters()] == [(name, id(p)) for name, p in names.items()]
    x = torch.randn(2, 3, 5, 64)
    assert torch.equal(taken(x), block(x))


def test_a_text_keeps_its_end_token_where_it_is_cut() -> None:
    text = WrappedText(small_clip().text, vectors=73)  # room for 4 tokens
    tokens = torch.tensor([[510, 7, 511, 0, 0, 0], [510, 7, 8, 511, 0, 0], [510, 7, 8, 9, 6, 511]])
    assert text.truncate(tokens).tolist() == [[510, 7, 511, 0], [510, 7, 8, 511], [510, 7, 8, 511]]
    assert text.truncate(tokens[:1, :3]).tolist() == [[510, 7, 511]]


@pytest.mark.parametrize(("spec", "room"), [("frame_clip", 77), ("vpt", 45), ("vita_clip", 69), ("tc_clip", 73)])
def test_room_of_the_text_encoders(spec: str, room: int) -> None:
    assert build_student(spec, small_clip()).text.max_text_tokens == room


def test_cross_attention_agrees_with_a_loop_over_heads() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 12), torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    heads = [slice(0, 4), slice(4, 8), slice(8, 12)]
    expected = [(q[..., h] @ k[..., h].mT / 2).softmax(dim=-1) @ v[..., h] for h in heads]
    torch.testing.assert_close(cross_attention(q, k, v, 3), torch.cat(expected, dim=-1))
