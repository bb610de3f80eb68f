"""What several tests share: the tiny random model, and chats that hypothesis makes up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Folder of the random two-layer model with the embedded model's tokenizer and the ChatML tool template."""
    folder = ROOT / ".cache" / "tiny"
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "scripts" / "embedded_model.py", folder, "--tiny"], check=True)
    return folder
