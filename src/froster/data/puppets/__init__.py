"""Synthetic benchmark (puppets): videos of articulated figures, rendered from a seed, to train and test offline."""

from froster.data.puppets.actions import ACTIONS, action_index
from froster.data.puppets.captions import caption
from froster.data.puppets.files import contact_sheet, write_videos
from froster.data.puppets.render import Photo, draw_photo, draw_video, draw_video_and_mask
from froster.data.puppets.scenes import GAPS, DomainGap

__all__ = [
    "ACTIONS",
    "GAPS",
    "DomainGap",
    "Photo",
    "action_index",
    "caption",
    "contact_sheet",
    "draw_photo",
    "draw_video",
    "draw_video_and_mask",
    "write_videos",
]
