# SPDX-License-Identifier: Apache-2.0
"""What each command does. MindSpore is imported only after the options have been read."""

from __future__ import annotations

import gc

from sknet.config import ConfigError, parse_args
from sknet.data.folder import DataError


class RunError(Exception):
    """A run that stopped for a reason that its message tells."""


USER_ERRORS = (ConfigError, DataError, RunError)


def _check_sknet_ops() -> None:
    try:
        import sknet_ops  # noqa: F401
    except ModuleNotFoundError as error:
        raise RunError(f"{error.name} is not installed; in the root of the clone run: pip install -e .") from None


def train(argv: list[str]) -> int:
    config = parse_args(argv, "sknet train", "Train a model on the image folder DATA_DIR/{train,val}/CLASS/IMAGE.")
    _check_sknet_ops()
    from sknet.engine import GroupError, TrainingError
    from sknet.engine import train as run

    try:
        run(config)
    except GroupError as error:
        raise RunError(f"{error}; the same command continues from the last state in {config.ckpt_save_dir}") from None
    except TrainingError as error:
        raise RunError(str(error)) from None
    except (OSError, ValueError) as error:
        raise _readable(error) from error
    finally:
        # MindSpore's cells complain when the interpreter's end takes them.
        gc.collect()
    return 0


def validate(argv: list[str]) -> int:
    about = "Score a checkpoint on the image folder DATA_DIR/val/CLASS/IMAGE."
    config = parse_args(argv, "sknet validate", about)
    _check_sknet_ops()
    from sknet.engine import validate as run

    try:
        scores = run(config)
    except (OSError, ValueError) as error:
        raise _readable(error) from error
    finally:
        gc.collect()
    for note in config.notes:
        print(note)
    print(f"{config.model}, {scores.images} images: {scores}")
    print(f"validation accuracy {100 * scores.top1:.2f} %")
    return 0


def _readable(error: Exception) -> Exception:
    """Our own errors as they are, and that of a reader who left; files and weights that do not fit as a message."""
    return error if isinstance(error, (*USER_ERRORS, BrokenPipeError)) else RunError(str(error))
