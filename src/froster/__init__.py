"""froster: open-vocabulary action recognition for video."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from froster.data.pack import PackReport, pack_data
    from froster.errors import FrosterError, VideoError, WeightsError
    from froster.evaluation import ModelReport, evaluate
    from froster.explanation.video import Explanation, explain
    from froster.inference import Ensemble, Runtime
    from froster.merging import average_models, patch_model
    from froster.models import list_models, load_model, save_model
    from froster.recognizer import Prediction, Recognizer
    from froster.reporting import report
    from froster.settings import InferenceSettings
    from froster.students import register_student
    from froster.timeline import calibrate_threshold, find_segments, score_timeline
    from froster.training.folder import FolderTraining, train_folder
    from froster.training.start import train
    from froster.training.sweep import Sweep, sweep
    from froster.video import load_video

__version__ = "0.1.0"
__all__ = [
    "Ensemble",
    "Explanation",
    "FolderTraining",
    "FrosterError",
    "InferenceSettings",
    "ModelReport",
    "PackReport",
    "Prediction",
    "Recognizer",
    "Runtime",
    "Sweep",
    "VideoError",
    "WeightsError",
    "average_models",
    "calibrate_threshold",
    "evaluate",
    "explain",
    "find_segments",
    "list_models",
    "load_model",
    "load_video",
    "pack_data",
    "patch_model",
    "register_student",
    "report",
    "save_model",
    "score_timeline",
    "sweep",
    "train",
    "train_folder",
]

_HOMES = {
    "Ensemble": "inference",
    "Explanation": "explanation.video",
    "FolderTraining": "training.folder",
    "FrosterError": "errors",
    "InferenceSettings": "settings",
    "ModelReport": "evaluation",
    "PackReport": "data.pack",
    "Prediction": "recognizer",
    "Recognizer": "recognizer",
    "Runtime": "inference",
    "Sweep": "training.sweep",
    "VideoError": "errors",
    "WeightsError": "errors",
    "average_models": "merging",
    "calibrate_threshold": "timeline",
    "evaluate": "evaluation",
    "explain": "explanation.video",
    "find_segments": "timeline",
    "list_models": "models",
    "load_model": "models",
    "load_video": "video",
    "pack_data": "data.pack",
    "patch_model": "merging",
    "register_student": "students",
    "report": "reporting",
    "save_model": "models",
    "score_timeline": "timeline",
    "sweep": "training.sweep",
    "train": "training.start",
    "train_folder": "training.folder",
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
