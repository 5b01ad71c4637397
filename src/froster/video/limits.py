"""What is taken from a video file, so that no file can fill the memory or have other files opened.

The same for the library, the commands and the server.
"""

import os
from pathlib import Path

from froster.errors import FrosterError, VideoError

MAX_PIXELS = 8192 * 4320  # of one picture: 8K
MAX_PIXELS_VARIABLE = "FROSTER_MAX_PIXELS"  # of the environment, so that worker processes keep to it as well

# Containers that hold their own pictures. Playlists (HLS, DASH, concat and others) would have FFmpeg open the files
# that they name, wherever these lie.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,gif,ogg,asf,"
    "yuv4mpegpipe,mjpeg,mxf,nut,rm,wtv,dv,swf,amv,"
    "wav,mp3,flac,aac"  # to say that there is only sound
)
# Options of FFmpeg. A file or pipe may name no other file; a stream may be a playlist of others on the network.
LOCAL_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
PIPE_OPTIONS = {"protocol_whitelist": "pipe", "format_whitelist": FORMATS}
REMOTE_OPTIONS = {
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,udp,rtp,srtp,rtmp,rtmps,rtmpt,srt,ftp,mmsh,mmst,crypto,data",
    "rtsp_transport": "tcp",
}


def max_pixels() -> int:
    """The most pixels that a picture may have: `MAX_PIXELS`, or what the environment variable says.

    Raises `FrosterError` where the variable holds no whole number above 0.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise FrosterError(f"{MAX_PIXELS_VARIABLE} must be a whole number of pixels, 1 or more, not {text!r}.")
    return int(text)


def set_max_pixels(pixels: int) -> None:
    """Let pictures have up to `pixels` pixels, in this process and those that it starts.

    Raises `ValueError` below 1.
    """
    if pixels < 1:
        raise ValueError(f"The most pixels of a picture must be 1 or more, not {pixels}.")
    os.environ[MAX_PIXELS_VARIABLE] = str(pixels)


def check_size(path: str | Path, width: int, height: int) -> None:
    """Raises `VideoError` for pictures of more than `max_pixels()`."""
    most = max_pixels()
    if width * height > most:
        raise VideoError(
            path,
            f"its pictures of {width} x {height} are larger than the {most} pixels allowed; scale them down, "
            f"or set the environment variable {MAX_PIXELS_VARIABLE}, if there is memory for it",
        )
