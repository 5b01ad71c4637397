"""Limits on video files, so that none can exhaust memory or open other files.

The same for the library, the commands and the server.
"""

import os
from pathlib import Path

from froster.errors import FrosterError, VideoError

MAX_PIXELS = 8192 * 4320  # per frame: 8K
MAX_PIXELS_VARIABLE = "FROSTER_MAX_PIXELS"  # an environment variable, which worker processes inherit

# Containers with embedded streams. Playlists (HLS, DASH, concat and others) make FFmpeg open any files they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,gif,ogg,asf,"
    "yuv4mpegpipe,mjpeg,mxf,nut,rm,wtv,dv,swf,amv,"
    "wav,mp3,flac,aac"  # for the message that there is only audio
)
# Options of FFmpeg. A file or pipe may not name other files; a stream may be a playlist of network URLs.
LOCAL_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
PIPE_OPTIONS = {"protocol_whitelist": "pipe", "format_whitelist": FORMATS}
REMOTE_OPTIONS = {
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,udp,rtp,srtp,rtmp,rtmps,rtmpt,srt,ftp,mmsh,mmst,crypto,data",
    "rtsp_transport": "tcp",
}


def max_pixels() -> int:
    """Maximum pixels per frame: `MAX_PIXELS`, or the environment variable.

    Raises `FrosterError` where the variable holds no whole number above 0.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise FrosterError(f"{MAX_PIXELS_VARIABLE} must be a whole number of pixels, 1 or more, not {text!r}.")
    return int(text)


def set_max_pixels(pixels: int) -> None:
    """Set the maximum pixels per frame, in this process and its children.

    Raises `ValueError` below 1.
    """
    if pixels < 1:
        raise ValueError(f"The maximum pixels must be 1 or more, not {pixels}.")
    os.environ[MAX_PIXELS_VARIABLE] = str(pixels)


def check_size(path: str | Path, width: int, height: int) -> None:
    """Raises `VideoError` for images of more than `max_pixels()`."""
    most = max_pixels()
    if width * height > most:
        raise VideoError(
            path,
            f"its frames of {width} x {height} exceed the maximum of {most} pixels; scale them down, "
            f"or set the environment variable {MAX_PIXELS_VARIABLE}, if there is enough memory",
        )
