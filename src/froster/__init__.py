"""froster: open-vocabulary action recognition for video."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from froster.errors import FrosterError, VideoError, WeightsError
    from froster.models import list_models, load_model
    from froster.recognizer import Prediction, Recognizer
    from froster.students import register_student
    from froster.timeline import calibrate_threshold, find_segments, score_timeline
    from froster.video import load_video

__version__ = "0.1.0"
__all__ = [
    "FrosterError",
    "Prediction",
    "Recognizer",
    "VideoError",
    "WeightsError",
    "calibrate_threshold",
    "find_segments",
    "list_models",
    "load_model",
    "load_video",
    "register_student",
    "score_timeline",
]

_HOMES = {
    "FrosterError": "errors",
    "Prediction": "recognizer",
    "Recognizer": "recognizer",
    "VideoError": "errors",
    "WeightsError": "errors",
    "calibrate_threshold": "timeline",
    "find_segments": "timeline",
    "list_models": "models",
    "load_model": "models",
    "load_video": "video",
    "register_student": "students",
    "score_timeline": "timeline",
}

if Path(__file__).with_name("froster.py").exists():
    import sys

    from froster_video import conflict

    raise ImportError(conflict(sys.modules[__name__]))


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import: `froster --help` should not wait for it.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"froster.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'froster' has no attribute {name!r}")
