"""Which columns each dataset has: kept by ingest, which sees every key, not by scanning events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from inprod.events.columns import FIXED, PROMOTED_FIRST

KEYS_MAX_PER_DATASET = 10_000
KEYS_MAX = 100_000
DATASETS_MAX = 1_000
TEXT, NUMBER = "text", "number"


class Key(NamedTuple):
    """One attribute of one dataset, with one of the types it was seen with.

    The key `""` of type text says that the dataset exists.
    """

    dataset: str
    key: str
    type: str


class Catalogue:
    """The keys known so far, bounded; past its bounds it admits that it does not know them all."""

    def __init__(self, known: Iterable[Key] = ()) -> None:
        self._datasets: dict[str, dict[str, set[str]]] = {}
        self._size = 0
        self.is_complete = True
        for key in known:
            self.learn(key)

    def learn(self, key: Key) -> None:
        """Remember a key, unless there are too many."""
        keys = self._datasets.get(key.dataset)
        if keys is None:
            if len(self._datasets) >= DATASETS_MAX:
                self.is_complete = False
                return
            keys = self._datasets[key.dataset] = {}
        types = keys.get(key.key)
        if types is None:
            if len(keys) >= KEYS_MAX_PER_DATASET or self._size >= KEYS_MAX:
                self.is_complete = False
                return
            types = keys[key.key] = set()
            self._size += 1
        types.add(key.type)

    def news(self, seen: Mapping[str, tuple[set[str], set[str]]]) -> list[Key]:
        """Return the keys in `seen` (dataset -> text keys, number keys) that are not known yet."""
        new: list[Key] = []
        for dataset, (texts, numbers) in seen.items():
            keys = self._datasets.get(dataset)
            if keys is None:
                new.append(Key(dataset, "", TEXT))
                keys = {}
            room = KEYS_MAX_PER_DATASET - len(keys)
            for type_, names in ((TEXT, texts), (NUMBER, numbers)):
                for name in names:
                    types = keys.get(name)
                    if types is not None and type_ in types:
                        continue
                    if len(new) > min(room, KEYS_MAX - self._size):
                        self.is_complete = False
                        break
                    new.append(Key(dataset, name, type_))
        return new

    def datasets(self) -> list[str]:
        """Return the names of all datasets, sorted."""
        return sorted(self._datasets)

    def columns(self, dataset: str | None) -> dict[str, list[str]]:
        """Return attribute name -> types, of one dataset or of all, sorted by name."""
        merged: dict[str, set[str]] = {}
        chosen = self._datasets if dataset is None else {"": self._datasets.get(dataset, {})}
        for keys in tuple(chosen.values()):
            for key, types in tuple(keys.items()):
                if key:
                    merged.setdefault(key, set()).update(types)
        return {key: sorted(merged[key]) for key in sorted(merged)}

    def knows(self, column: str) -> bool:
        """Say whether a query may name the column: fixed, promoted, or seen in any dataset."""
        if column in FIXED or column in PROMOTED_FIRST or not self.is_complete:
            return True
        return any(column in keys for keys in tuple(self._datasets.values()) if column)
