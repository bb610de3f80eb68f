"""What libraries read from the environment, and how much they say: wandb stays off unless it is asked for."""

from __future__ import annotations

import logging
import netrc
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from datasets import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

from core.errors import UserError, nearest


def prepare_environment(wandb: str, training: Any) -> None:
    """Set what libraries read from the environment: wandb stays off unless asked for, and without a key it is offline.

    TRL's own `--report_to wandb` counts as asking.

    Raises:
        UserError: if wandb is asked for and not installed, or the mode is unknown.
    """
    if training.trust_remote_code:
        raise UserError("trust_remote_code is off here: a model's repository must not run code of its own")
    if wandb not in ("off", "offline", "online"):
        raise UserError(
            f"--wandb {wandb}: expected off, offline or online.{nearest(wandb, ['off', 'offline', 'online'])}"
        )
    if wandb == "off" and "wandb" in training.report_to:
        wandb = "online"
    training.report_to = [name for name in training.report_to if name != "wandb"]
    if wandb == "off":
        os.environ["WANDB_MODE"] = "disabled"
        return
    if find_spec("wandb") is None:
        raise UserError("--wandb needs the package: pip install 'tooltune[wandb]'")
    why = ""
    if wandb == "online":
        why = "" if _has_wandb_key() else "no key was found"
        why = why or ("" if _wandb_answers() else f"{_wandb_url()} does not answer")
    if why:
        wandb = "offline"
        _say_offline(why, training)
    os.environ["WANDB_MODE"] = wandb
    os.environ.setdefault("WANDB_DIR", training.output_dir)
    os.environ.setdefault("WANDB_SILENT", "true")
    Path(training.output_dir).mkdir(parents=True, exist_ok=True)
    training.report_to = [*training.report_to, "wandb"]


def open_wandb(training: Any) -> None:
    """Open the run at wandb where it is asked for; where the server refuses it, the run goes on offline and one line says so.

    The callback of the HF Trainer takes a run that is open.
    """
    if "wandb" not in training.report_to or os.environ.get("RANK", "0") != "0":
        return
    import wandb  # noqa: PLC0415 - an extra, and slow to import

    about = {"project": os.environ.get("WANDB_PROJECT", "huggingface"), "name": training.run_name}
    try:
        wandb.init(**about, settings=wandb.Settings(init_timeout=30))
    except wandb.Error as error:
        _say_offline((str(error).strip().splitlines() or [type(error).__name__])[0], training)
        os.environ["WANDB_MODE"] = "offline"
        wandb.init(**about, mode="offline")


def _say_offline(why: str, training: Any) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"wandb: {why}; the run is kept in {training.output_dir}/wandb, `wandb sync` sends it later\n")


def _wandb_url() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _wandb_answers() -> bool:
    try:
        return httpx.get(_wandb_url(), timeout=5, follow_redirects=True).status_code < 500
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(httpx.URL(_wandb_url()).host) is not None
    except (OSError, netrc.NetrcParseError, httpx.InvalidURL):
        return False


def quiet() -> None:
    """Keep the libraries' advice to developers out of the log of a run."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("transformers", "bitsandbytes", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bar()
    disable_progress_bars()
