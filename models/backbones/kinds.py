"""The kinds of backbone, each a preset in a file of its own."""

from __future__ import annotations

from typing import Literal

from models.backbones.fuxi import FUXI
from models.backbones.gpt import GPT
from models.backbones.hstu import HSTU
from models.backbones.ligr import LIGR
from models.backbones.llama import LLAMA
from models.backbones.preset import Preset
from models.backbones.sasrec import SASREC

BackboneKind = Literal["hstu", "sasrec", "gpt", "llama", "fuxi", "ligr"]

BACKBONES: dict[BackboneKind, Preset] = {
    "hstu": HSTU,
    "sasrec": SASREC,
    "gpt": GPT,
    "llama": LLAMA,
    "fuxi": FUXI,
    "ligr": LIGR,
}
