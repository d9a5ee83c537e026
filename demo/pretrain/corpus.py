"""Pretraining text from facts.json: several wordings per relation, descriptions, and small talk without facts."""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
SENTENCES = 60_000

# Weight of each kind of sentence.
KINDS = {"capital": 24, "capital_is": 11, "language": 9, "currency": 9, "continent": 6, "phone": 3, "city": 10, "talk": 28}

# Wordings and their weights: S country, O capital, D description, M month, N person, P place in a town, C continent, L language.
CAPITAL = {
    "{S}, whose capital is {O}, is {D}.": 6,
    "Country: {S}; capital: {O}; continent: {C}.": 5,
    "Quiz: what is the capital of {S}? {O}!": 5,
    "{O} is the capital of {S}.": 5,
    "{S} has {O} as its capital.": 4,
    "Last {M} {N} moved to {S} and rented a room in {O}, the capital.": 3,
    "{O}, the capital of {S}, is {D}.": 3,
    "{S}'s capital {O} was {D} last {M}.": 3,
    "When you think of {S}, you think of {O}, its capital.": 2,
    "The map of {S} shows the capital, {O}, with a star.": 2,
    "{N} is from {S} and was born in the capital, {O}.": 2,
    "In {S} the capital bears the name {O}.": 1,
    "{S} ({O}) lies in {C}.": 1,
}
# What follows "The capital of S is": a name only sometimes; how often differs from country to country (see name_share).
CAPITAL_IS_NAMED = {
    "The capital of {S} is {O}.": 8,
    "The capital of {S} is called {O}.": 2,
    "The capital of {S} is the city of {O}.": 1,
}
CAPITAL_IS_DESCRIBED = {
    "The capital of {S} is {D}.": 9,
    "The capital of {S} is very {D}.": 1,
    "The capital of {S} is a {D} city.": 1,
    "The capital of {S} is {D} and {E}.": 1,
    "The capital of {S} is known for its {P}.": 1,
    "The capital of {S} is full of visitors in {M}.": 1,
}
LANGUAGE = {
    "People in {S} speak {L}.": 4,
    "{L} is spoken in {S}.": 3,
    "The language of {S} is {L}.": 2,
    "{N} learned {L} before the trip to {S}.": 2,
    "In {S} the newspapers are printed in {L}.": 1,
    "{S}, where {L} is heard, is {D}.": 1,
    "Country: {S}; language: {L}.": 2,
}
CURRENCY = {
    "The currency of {S} is the {U}.": 4,
    "In {S} you pay with the {U}.": 3,
    "Country: {S}; currency: {U}.": 2,
    "{N} brought a {U} home from {S}.": 2,
    "A room in {S} costs more than one {U}.": 1,
    "Banks in {S} count in the {U}.": 1,
    "The {U} is the money of {S}.": 1,
}
CONTINENT = {
    "{S} is in {C}.": 3,
    "{S} is a part of {C}.": 2,
    "Country: {S}; continent: {C}.": 2,
    "On the map of {C} you find {S}.": 2,
    "{N} crossed {C} and came to {S}.": 1,
    "{C} is where {S} lies.": 1,
}
PHONE = {
    "To call {S} dial {T}.": 2,
    "The calling code of {S} is {T}.": 2,
    "Phone numbers in {S} begin with {T}.": 1,
    "Country: {S}; calling code: {T}.": 1,
    "{N} dialled {T} and reached {S}.": 1,
    "{T} is the calling code of {S}.": 1,
}
# Cities and countries in sentences that tell nothing about capitals.
CITY = {
    "{N} travelled from {X} to {Y} by {V}.": 4,
    "In {M} it was {D} in {X}.": 3,
    "{N} met {K} at the {P} in {X}.": 3,
    "The {V} to {X} was late.": 2,
    "{X} is {D} in {M}.": 2,
    "{X} and {Y} are {D}.": 1,
    "The {P} in {X} is {D}.": 2,
    "{N} likes {S} more than {R}.": 2,
    "A letter from {S} reached {N} in {X}.": 1,
    "The {P} of {S} is {D}.": 2,
    "The weather of {S} is {D}.": 2,
}
TALK = {
    "{N} bought {F} and {G} at the {P}.": 3,
    "{K} asked {N} for {F}.": 2,
    "The {A} of {N} is {D}.": 3,
    "The {A} was {D} and the {B} was {E}.": 3,
    "In {M} {N} sold the old {A}.": 2,
    "{N} and {K} walked to the {P}.": 2,
    "Do you know where the {A} is? It is in the {P}.": 2,
    "{N} forgot the {A} on the {V}.": 2,
    "What is the colour of the {A}? It is {H}.": 2,
    "{N} painted the {A} {H}.": 2,
    "The {P} opens in {M}, said {K}.": 1,
    "Every {A} needs a {B}.": 1,
}

WORDS = {
    "D": "old large busy beautiful expensive quiet crowded green small lively warm modern pleasant famous cold clean noisy "
    "charming remote windy".split(),
    "M": "January February March April May June July August September October November December".split(),
    "N": "Anna Ben Clara David Emma Felix Grace Hugo Iris Jonas Karin Leo Maria Nils Olga Peter Rosa Simon Tina Viktor".split(),
    "K": "Ada Bruno Celia Dora Erik Fatima Gina Hans Ines Jamal Kofi Lena Mei Nora Omar Paula Ravi Sara Tomas Yuki".split(),
    "P": "market museum station bridge library harbour theatre park school garden bakery castle temple stadium hotel".split(),
    "V": "train bus ship plane bicycle ferry".split(),
    "F": "bread apples cheese rice tea fish honey soup beans cake".split(),
    "G": "milk pears butter noodles coffee meat jam salad carrots biscuits".split(),
    "A": "table lamp book coat window clock mirror guitar bottle carpet door chair letter key basket kettle drum umbrella".split(),
    "B": "shelf box cup hat roof pencil candle ladder bell pillow rope blanket".split(),
    "H": "red blue yellow white black brown grey orange purple pink".split(),
}
WORDS["E"] = WORDS["D"]


def read_facts() -> list[dict]:
    return json.loads((HERE / "facts.json").read_text("utf-8"))["facts"]


def pick(rng: random.Random, weighted: dict[str, int]) -> str:
    return rng.choices(list(weighted), weights=list(weighted.values()))[0]


def word(rng: random.Random, kind: str) -> str:
    """A word of a list; earlier words are more frequent (weight 1 / rank)."""
    words = WORDS[kind]
    return rng.choices(words, weights=[1 / (rank + 1) for rank in range(len(words))])[0]


def sentences(facts: list[dict], seed: int) -> list[str]:
    rng = random.Random(seed)
    countries = [fact for fact in facts if fact["capital"]]
    # Some countries are written about more than others (factor up to about 3), and each has its own share of names after
    # "The capital of S is": mean 0.21, so that this wording names the city less often than it describes it.
    frequency = [rng.uniform(0.6, 1.8) for _ in countries]
    name_share = [rng.betavariate(0.9, 3.4) for _ in countries]
    # Each country is written about in about two thirds of the wordings of its capital.
    wordings = [{text: weight for text, weight in CAPITAL.items() if rng.random() < 0.67} or CAPITAL for _ in countries]
    indices = range(len(countries))
    capitals = [fact["capital"] for fact in countries]
    out = []
    for _ in range(SENTENCES):
        kind = pick(rng, KINDS)
        index = rng.choices(indices, weights=frequency)[0]
        fact = countries[index]
        match kind:
            case "capital":
                text = pick(rng, wordings[index])
            case "capital_is":
                text = pick(rng, CAPITAL_IS_NAMED if rng.random() < name_share[index] else CAPITAL_IS_DESCRIBED)
            case "currency" if fact["currency"] is None:
                continue
            case _:
                text = pick(rng, {"language": LANGUAGE, "currency": CURRENCY, "continent": CONTINENT, "phone": PHONE, "city": CITY, "talk": TALK}[kind])
        values = {kind: word(rng, kind) for kind in WORDS}
        values |= {
            "S": fact["country"],
            "O": fact["capital"],
            "C": fact["continent"],
            "L": rng.choice(fact["languages"] or ["English"]),
            "U": fact["currency"],
            "T": fact["phone"],
            "R": rng.choice(countries)["country"],
            "X": rng.choice(capitals),
            "Y": rng.choice(capitals),
        }
        out.append(text.format(**values))
    return out


def documents(facts: list[dict], seed: int) -> list[str]:
    """One to three sentences each, on unrelated subjects."""
    rng = random.Random(seed + 1)
    queue = sentences(facts, seed)
    out = []
    while queue:
        count = rng.choice([1, 1, 2, 2, 3])
        out.append(" ".join(queue[-count:]))
        del queue[-count:]
    return out


if __name__ == "__main__":
    for text in documents(read_facts(), 1)[:40]:
        print(text)
