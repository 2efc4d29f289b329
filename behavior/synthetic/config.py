"""Settings of the synthetic log. The process they steer is described in `behavior/synthetic/world.py`."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from behavior.config import Config

Share = Annotated[float, Field(ge=0, le=1)]


class SyntheticConfig(Config):
    """A synthetic behavior log: its size, its planted structure and its clock."""

    seed: int = Field(0, ge=0, description="Seed of everything random; the same seed gives the same log.")
    users: int = Field(2800, ge=1, description="Number of users.")
    items: int = Field(1000, ge=2, description="Number of items on offer; rare ones may never be seen.")
    domains: int = Field(1, ge=1, description="Number of domains the interests and items are divided into.")
    mean_events: float = Field(50.0, ge=1, description="Mean events of a user, before the two limits.")
    length_spread: float = Field(0.6, ge=0, description="Sigma of the log-normal number of events of a user.")
    min_events: int = Field(5, ge=1, description="Fewest events of a user.")
    max_events: int = Field(2000, ge=1, description="Most events of a user.")

    interests: int = Field(40, ge=1, description="Number of latent interests.")
    personas: int = Field(20, ge=1, description="Number of personas; each user is one, for good.")
    interests_per_persona: int = Field(4, ge=1, description="Interests a persona moves among.")
    interests_per_item: int = Field(2, ge=1, description="Interests an item belongs to, all of one domain.")
    zipf: float = Field(1.1, ge=0, description="Exponent of the item popularity within an interest.")
    noise: Share = Field(0.3, description="Share of fresh items drawn from the overall popularity.")
    follow: Share = Field(0.03, description="Share of fresh items in a session that succeed the last item.")

    switch_in_session: Share = Field(0.02, description="Probability that the interest changes in a session.")
    switch_at_break: Share = Field(0.8, description="Probability that the interest changes at a new session.")
    drift: Share = Field(0.6, description="Share of changes to the persona's next interest in its cycle.")

    behaviors: tuple[str, ...] = Field(
        ("view", "cart", "buy"), min_length=1, description="Behaviors in the order of the funnel."
    )
    behavior_shares: tuple[float, ...] = Field((0.64, 0.18, 0.18), description="Share of each behavior.")
    funnel: Share = Field(0.5, description="Probability that a later behavior takes an open item, if any.")
    funnel_window: int = Field(10, ge=1, description="Number of last events in which an item stays open.")
    funnel_recency: Share = Field(0.9, description="Weight of an open item against one an event younger.")
    funnel_mismatch: Share = Field(0.2, description="Weight of an open item of another interest.")

    session_break: Share = Field(0.1, description="Probability that an event begins a new session.")
    session_gap: int = Field(1800, ge=2, description="Seconds of silence that make a new session.")
    ties: Share = Field(0.1, description="Share of events in a session at the time of the one before.")
    gap_median: float = Field(40.0, gt=0, description="Median seconds between two events of a session.")
    gap_spread: float = Field(1.2, ge=0, description="Sigma of those seconds (log-normal).")
    break_median: float = Field(
        43_200.0, gt=0, description="Median seconds from session to session, beyond session_gap."
    )
    break_spread: float = Field(1.0, ge=0, description="Sigma of those seconds (log-normal).")
    start: int = Field(1_700_000_000, ge=0, description="Unix time of the first day, in seconds.")
    arrival_days: float = Field(30.0, ge=0, description="Days over which the users arrive, evenly.")

    feature_noise: Share = Field(0.1, description="Share of feature values that are drawn at random.")
    missing: Share = Field(0.02, description="Share of feature values that are missing.")

    @property
    def target(self) -> str:
        """The behavior to predict: the last step of the funnel."""
        return self.behaviors[-1]

    @model_validator(mode="after")
    def _check(self) -> SyntheticConfig:
        if len(self.behavior_shares) != len(self.behaviors):
            raise ValueError("behavior_shares needs one share for each of behaviors")
        if len(set(self.behaviors)) != len(self.behaviors):
            raise ValueError("behaviors has a name twice")
        if min(self.behavior_shares) < 0 or not math.isclose(sum(self.behavior_shares), 1.0, abs_tol=1e-6):
            raise ValueError("behavior_shares must sum to 1, none below 0")
        if self.noise + self.follow > 1:
            raise ValueError("noise + follow must not be more than 1")
        if self.interests_per_persona > self.interests:
            raise ValueError("interests_per_persona must not be more than interests")
        if self.domains > self.interests:
            raise ValueError("domains must not be more than interests: each needs one")
        if self.interests > self.items:
            raise ValueError("interests must not be more than items: each needs one")
        if self.min_events > self.max_events:
            raise ValueError("min_events must not be more than max_events")
        return self
