"""Behavior logs with planted structure, and how well anything could possibly predict them.

log = generate(SyntheticConfig(users=2000))
log.write("raw/")        # files as a company's log would look, and the spec to prepare them
ceilings(log)            # NDCG@10 and HR@10 of rankers that know the planted process

In: a configuration, seed included. Out: Arrow tables, or raw files with the spec that prepares them.
May import: nothing but the root's modules.
"""

from behavior.synthetic.ceilings import ceilings, predictive
from behavior.synthetic.config import SyntheticConfig
from behavior.synthetic.generate import generate
from behavior.synthetic.log import SyntheticLog

__all__ = ["SyntheticConfig", "SyntheticLog", "ceilings", "generate", "predictive"]
