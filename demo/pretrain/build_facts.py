"""Derive facts.json from the npm package countries-list (MIT). Usage: build_facts.py PACKAGE_DIR"""

import json
import sys
from pathlib import Path

# What a unit is called, where it is not the last word of the currency's name.
UNITS = {"XCG": "guilder", "ZWG": "gold", "TOP": "paanga"}


def main(package: Path) -> None:
    def read(name: str):
        return json.loads((package / name).read_text("utf-8"))

    meta = read("package.json")
    currencies, languages = read("currencies.all.min.json"), read("languages.min.json")
    continents = read("continents.min.json")
    facts = []
    for code, country in sorted(read("countries.min.json").items()):
        facts.append({
            "code": code,
            "country": country["name"],
            "capital": country["capital"] or None,
            "continent": continents[country["continent"]],
            "languages": [languages[tag]["name"].split(" / ")[0] for tag in country["languages"][:3]],
            "currency": next((UNITS.get(tag, currencies[tag]["name"].split()[-1].lower()) for tag in country["currency"]), None),
            "phone": country["phone"][0] if country["phone"] else None,
        })
    out = {
        "source": f"npm package countries-list {meta['version']}, https://github.com/annexare/Countries",
        "license": "MIT",
        "copyright": "Copyright (c) 2014 Annexare Studio",
        "facts": facts,
    }
    rows = ",\n".join("  " + json.dumps(fact, ensure_ascii=False) for fact in facts)
    head = json.dumps({key: out[key] for key in ("source", "license", "copyright")}, indent=1, ensure_ascii=False)
    text = head[:-2] + ',\n "facts": [\n' + rows + "\n ]\n}\n"
    assert json.loads(text) == out
    (Path(__file__).parent / "facts.json").write_text(text, "utf-8")
    print(f"{len(facts)} countries and territories")


main(Path(sys.argv[1]))
