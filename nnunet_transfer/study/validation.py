"""Check a study file against its schema, with messages in terms of the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

from nnunet_transfer.errors import StudyError
from nnunet_transfer.registration import did_you_mean
from nnunet_transfer.study.document import Document


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of a study file."""
    return json.loads(files(__package__).joinpath("schema.json").read_text(encoding="utf-8"))


# to JSON schema 1.0 is an integer; to folders' names, which hold ids, seeds and epochs, it isn't
_VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def check_schema(document: Document) -> None:
    """Check a document against the schema.

    Raises
    ------
    StudyError
        With all invalid lines, in the order of the file.
    """
    validator = _VALIDATOR(schema())
    wrong = [found for error in validator.iter_errors(document.content) for found in _explained(_deepest(error))]
    wrong.sort(key=lambda found: document.line(found[0]))
    found = dict.fromkeys(str(document.error(place, text)) for place, text in wrong)
    if found:
        first, *others = found
        raise StudyError("; ".join([first, *(other.removeprefix(f"{document.path.name}, ") for other in others)]))


def _deepest(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Return the failure of the most plausible of several failed alternatives."""
    if error.validator == "anyOf" and error.context:
        kinds = [e for e in error.context if e.validator not in ("type", "const")]
        return _deepest(kinds[0]) if kinds else error
    return error


def _explained(error: jsonschema.ValidationError) -> list[tuple[list[str | int], str]]:
    """Return each place of a schema error, with an explanation in terms of the file."""
    place = list(error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    if error.validator == "additionalProperties" and isinstance(value, dict):
        outer: Any = error.schema
        known = outer["properties"]
        return [([*place, key], f"unknown key; {did_you_mean(str(key), known)}") for key in value if key not in known]
    if error.validator == "dependentRequired":
        absent = {key: [n for n in needed if n not in value] for key, needed in rule.items() if key in value}
        return [
            ([*place, key], f"goes with {', '.join(names)}, which is missing") for key, names in absent.items() if names
        ]
    return [_explained_alone(error, place, value, rule)]


def _explained_alone(
    error: jsonschema.ValidationError, place: list[str | int], value: Any, rule: Any
) -> tuple[list[str | int], str]:
    """Explain an error that concerns one place."""
    if error.validator == "required":
        missing = [key for key in rule if key not in value]
        return place, f"needs {', '.join(missing)}"
    if error.validator == "oneOf":
        return (
            place,
            "give one of: pretrain (a data set); checkpoint with task and domain; fetch (a name in the catalogue)",
        )
    if error.validator == "not" and not rule:  # nothing is valid here: a key that another one excludes
        *_, other, _, _, _ = error.absolute_schema_path
        return place, f"doesn't go with {other}; remove one of them"
    if error.validator == "not":
        return place, "is either converted or synthetic; remove converter or synthetic"
    if error.validator == "anyOf":
        kinds = [_WORDS.get(str(e.validator_value), str(e.validator_value)) for e in error.context or ()]
        return place, f"must be {' or '.join(kinds)}, not {_shown(value)}"
    if error.validator == "uniqueItems":
        return place, f"give each once, not {_shown(value)}"
    if error.validator == "enum":
        return place, unknown(str(value), rule)
    if error.validator == "pattern" and place[-1:] == ["sha256"]:
        return place, f"'{value}' must be 8 to 64 of the digits 0 to 9 and a to f"
    if error.validator == "pattern":
        return place, f"'{value}' may hold letters, digits and '_' only, and starts with a letter"
    if error.validator == "type":
        wanted = [rule] if isinstance(rule, str) else list(rule or ())
        return place, f"must be {' or '.join(_WORDS.get(w, w) for w in wanted)}, not {_shown(value)}"
    return place, error.message[:200]


#: up to this number of choices, all are listed instead of the nearest: the nearest to gpu would be cpu
_FEW = 4
_WORDS = {
    "object": "a mapping (key: value)",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def _shown(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)[:60]


def unknown(wrong: str, known: Iterable[str]) -> str:
    """Return a message on an unknown name, with the nearest known names or all of them."""
    known = list(map(str, known))
    if len(known) <= _FEW:
        return f"unknown '{wrong}'; there are: {', '.join(known)}"
    return f"'{wrong}': {did_you_mean(wrong, known)}"
