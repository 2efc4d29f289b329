"""The layouts there are, by their names in `embedding.layout`; each a pure function on a batch.

- `event`: one token an event, its behavior ignored or added.
- `interleaved`: item, behavior, item, behavior.
- `behavior_first`: behavior, item; the behavior of the next event is a condition.
- `channels`: a sequence a behavior, merged where the model is asked.
- `user_context`: a token a feature of the user, before any of them.
- `picture`: any of them as text.
"""

from models.inputs.layouts.registry import LAYOUTS, make_layout

__all__ = ["LAYOUTS", "make_layout"]
