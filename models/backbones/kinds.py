"""The kinds of backbone, each a preset in a file of its own; imports neither torch nor pydantic."""

from __future__ import annotations

from models.backbones.fuxi import FUXI
from models.backbones.gpt import GPT
from models.backbones.hstu import HSTU
from models.backbones.ligr import LIGR
from models.backbones.llama import LLAMA
from models.backbones.preset import Preset
from models.backbones.sasrec import SASREC

BACKBONES: dict[str, Preset] = {
    "hstu": HSTU,
    "sasrec": SASREC,
    "gpt": GPT,
    "llama": LLAMA,
    "fuxi": FUXI,
    "ligr": LIGR,
}
"""By the name in `model.kind`. All else that names the kinds (settings, errors, `--help`) reads them here."""
