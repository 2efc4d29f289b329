"""What the name of a column says, word by word."""

from __future__ import annotations

import re

_USERS = (
    "user usr uid visitor customer cust reviewer member household client buyer shopper person account player "
    "listener reader subscriber consumer viewer session"
)
_ITEMS = (
    "item iid movie product prod asin isbn article video song track book game business goods sku film music "
    "artist news podcast episode photo place venue poi hotel recipe app listing"
)
_TIMES = "time timestamp ts date datetime dt day when at on created utc epoch unixtime stamp month year hour"
_VALUES = "rating score value star overall weight hours price amount quantity playtime watch duration"
_BEHAVIORS = "behavior behaviour action event interaction activity type feedback"
_IDS = "id ids key code no nr num number uuid guid hash idx index name"
# A name with one of these speaks of a property of what the other words name.
_PROPERTIES = (
    "age gender sex segment group category cat class subclass subcategory type kind brand agent city country "
    "zip title name desc description url link status level rank count birth birthday dob phone email "
    "address price rating score color size department style genre tag version ip device session dt date time"
)
_NO_EVENTS = "birth birthday birthdate dob born registered registration signup joined release released expiry"
_WORDS = {
    role: set(words.split())
    for role, words in {
        "user": _USERS,
        "item": _ITEMS,
        "timestamp": _TIMES,
        "value": _VALUES,
        "behavior": _BEHAVIORS,
    }.items()
}
_ID_WORDS, _PROPERTY_WORDS = set(_IDS.split()), set(_PROPERTIES.split())
_NO_EVENT_WORDS = set(_NO_EVENTS.split())
_ALONE = {"uid", "iid", "asin", "isbn", "sku"}
"""Names of ids by themselves."""


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: userId, User-ID and user_id have two.

    >>> words_of("transactionID"), words_of("movieid"), words_of("items")
    (['transaction', 'id'], ['movie', 'id'], ['item'])
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    words: list[str] = []
    for word in re.findall(r"[^\W\d_]+", spaced.lower()):
        stem = word.removesuffix("s") if word.removesuffix("s") in _known() else word
        head = stem.removesuffix("id")
        words += [head, "id"] if head != stem and head in _WORDS["user"] | _WORDS["item"] else [stem]
    return words


def _known() -> set[str]:
    return set().union(*_WORDS.values()) - {"hour", "new"}


def fit(name: str, role: str) -> int:
    """How well a name says that its column plays a role.

    Args:
        name: of the column.
        role: user, item, timestamp, value or behavior.

    Returns:
        3 for what names the role and nothing else, 2 and 1 for less, 0 for what does not.
    """
    words = words_of(name)
    hits = [word for word in words if word in _WORDS[role]]
    if not hits:
        return 0
    rest = [word for word in words if word not in _WORDS[role]]
    if role in ("user", "item"):
        return _fit_id(words, hits, rest)
    if role == "timestamp":
        # reviewTime and order_date speak of the event, birthday does not; TRANSACTION_DT does.
        return 0 if set(words) & _NO_EVENT_WORDS else 3 - (words == ["day"] or hits in (["on"], ["at"]))
    if role == "behavior":
        return 0 if set(rest) & (_ID_WORDS - {"name"} | _WORDS["timestamp"]) else 3 - bool(rest)
    return 0 if set(rest) & _ID_WORDS else 3 - bool(rest)


def _fit_id(words: list[str], hits: list[str], rest: list[str]) -> int:
    session = "session" in hits
    if session and len(hits) > 1:
        return 0  # user_session is the session of a user
    other = set(rest) - _ID_WORDS
    if other & _PROPERTY_WORDS or "name" in rest:
        return 0
    if session:
        return 1
    if other:
        return 2 if set(rest) & _ID_WORDS or hits[0] in _ALONE else 1
    return 3


def role_of(name: str) -> str | None:
    """The role that a name says best; None where it says none."""
    best = max(_WORDS, key=lambda role: fit(name, role))
    return best if fit(name, best) else None
