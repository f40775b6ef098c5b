"""The shop's own SQLite: products, baskets and orders."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import NamedTuple

KINDS = ("lamp", "chair", "table", "shelf", "clock", "vase", "rug", "mirror", "stool", "desk")
LOOKS = ("oak", "walnut", "linen", "brass", "glass", "marble", "wool", "steel", "cork", "clay")
SIZES = ("small", "large", "tall", "low", "round")
PAGE = 20


class Product(NamedTuple):
    """One thing for sale; `price` is in cents."""

    id: int
    name: str
    price: int
    sold: int


class Catalogue:
    """Products, baskets and orders in one SQLite file, used from one thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript("""
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = OFF;
            CREATE TABLE IF NOT EXISTS product
                (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER, sold INTEGER);
            CREATE TABLE IF NOT EXISTS basket
                (visitor TEXT, product INTEGER REFERENCES product, PRIMARY KEY (visitor, product));
            CREATE TABLE IF NOT EXISTS purchase
                (id INTEGER PRIMARY KEY, visitor TEXT NOT NULL, total INTEGER);
        """)
        if not self._db.execute("SELECT count(*) FROM product").fetchone()[0]:
            self._fill()

    def _fill(self) -> None:
        chance = random.Random(1)
        rows = [
            (f"{size} {look} {kind}", chance.randrange(900, 40_000), chance.randrange(5_000))
            for kind in KINDS
            for look in LOOKS
            for size in SIZES
        ]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO product (name, price, sold) VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def most_sold(self) -> list[Product]:
        """Return the first page of the whole catalogue."""
        return self._products("ORDER BY sold DESC LIMIT ?", PAGE)

    def product(self, product_id: int) -> Product | None:
        """Return one product, or None."""
        found = self._products("WHERE id = ?", product_id)
        return found[0] if found else None

    def search_by_name(self, words: str) -> list[Product]:
        """Return the first page of products that have `words` in their name, by name."""
        return self._products("WHERE name LIKE ? ORDER BY name LIMIT ?", f"%{words}%", PAGE)

    def search_by_rank(self, words: str) -> list[Product]:
        """Return the same, most wanted first."""
        return self._products("WHERE name LIKE ? ORDER BY sold DESC LIMIT ?", f"%{words}%", PAGE)

    def put(self, visitor: str, product_id: int) -> None:
        """Put a product into the visitor's basket."""
        self._db.execute("INSERT OR IGNORE INTO basket VALUES (?, ?)", (visitor, product_id))

    def total(self, visitor: str) -> int:
        """Return what the visitor's basket costs, in cents."""
        row = self._db.execute(
            "SELECT sum(price) FROM basket JOIN product ON product = id WHERE visitor = ?",
            (visitor,),
        ).fetchone()
        return row[0] or 0

    def buy(self, visitor: str, total: int) -> int:
        """Turn the visitor's basket into a purchase; return its number."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute(
                "UPDATE product SET sold = sold + 1"
                " WHERE id IN (SELECT product FROM basket WHERE visitor = ?)",
                (visitor,),
            )
            self._db.execute("DELETE FROM basket WHERE visitor = ?", (visitor,))
            made = self._db.execute(
                "INSERT INTO purchase (visitor, total) VALUES (?, ?)", (visitor, total)
            )
        assert made.lastrowid is not None
        return made.lastrowid

    def _products(self, rest: str, *values: object) -> list[Product]:
        rows = self._db.execute(f"SELECT id, name, price, sold FROM product {rest}", values)
        return [Product(*row) for row in rows]
