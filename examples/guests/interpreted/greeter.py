"""A guest in Python. Its imports are run when it is built, and are there when it starts."""

import wit_world
from componentize_py_types import Err


class WitWorld(wit_world.WitWorld):
    def greet(self, name: str) -> str:
        return f"hello, {name}"

    def introduce(self, card: wit_world.Card) -> str:
        if not card.name:
            raise Err("a card without a name")
        who = card.name if card.age is None else f"{card.name}, {card.age}"
        return f"{who}: {', '.join(card.languages)}"
