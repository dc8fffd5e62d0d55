"""The addresses of experiments in the description of a server for programs."""

from __future__ import annotations

from typing import Any

from deepseek.recipe.sections import ExperimentSection

HEADER: dict[str, Any] = {
    "name": "X-Experiment-Key",
    "in": "header",
    "description": "Whom the rows are about: while an experiment runs, the same key is always answered by the same arm.",
    "schema": {"type": "string"},
}
ANSWER: dict[str, Any] = {
    "arm": {"type": "string", "description": "While an experiment runs: the arm that has answered."},
    "instead_of": {"type": "string", "description": "The row's own arm, where that has failed and the champion answered."},
}
"""What an answer has more while an experiment runs."""
_ARM: dict[str, Any] = {
    "type": "object",
    "properties": {"arm": {"type": "string", "description": "Which; may be left out where there is one only."}},
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def experiment_paths(name: str, *, keys: bool) -> dict[str, Any]:
    """Return the addresses of a model's experiments.

    Args:
        name: The model.
        keys: Whether clients have to show a key.
    """
    empty = {"type": "object", "additionalProperties": False}
    share = {**_ARM, "properties": {**_ARM["properties"], "share": _SHARE}, "required": ["share"], "additionalProperties": False}
    arm = {**_ARM, "additionalProperties": False}
    begin = _in_place(ExperimentSection.model_json_schema())
    admin = f"/admin/models/{name}"
    read = _operation(f"experiment-{name}", "The experiment that runs or was the last one, and what it has found.", keys=keys)
    read["responses"].pop("403")
    return {
        f"/v1/models/{name}/experiment": {"get": read},
        f"{admin}/experiment": {
            "get": _operation(f"experiment-state-{name}", "The same with paths and the log of what was done.", keys=keys),
            "post": _operation(f"experiment-begin-{name}", "Begin an experiment.", keys=keys, body=begin),
        },
        f"{admin}/experiment/share": {
            "post": _operation(f"experiment-share-{name}", "Give a challenger another share.", keys=keys, body=share)
        },
        f"{admin}/experiment/stop": {"post": _operation(f"experiment-stop-{name}", "End it; the champion stays.", keys=keys, body=empty)},
        f"{admin}/promote": {"post": _operation(f"promote-{name}", "Make an arm the model.", keys=keys, body=arm)},
        f"{admin}/rollback": {
            "post": _operation(f"rollback-{name}", "End the experiment, or go back to the model before.", keys=keys, body=empty)
        },
    }


def _operation(name: str, summary: str, *, keys: bool, body: dict[str, Any] | None = None) -> dict[str, Any]:
    words = {403: "The key may not do this.", 404: "There is no such model or experiment.", 503: "The server's disk or memory refuses."}
    if body is not None:
        words |= {400: "The body is no JSON.", 408: "The body came too slowly.", 409: "Not now.", 413: "The body is too large."}
        words |= {415: "The body is compressed.", 422: "The body asks for what is not allowed; `detail` says what."}
    if keys:
        words[401] = "A key is needed."
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answered = {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}}
    refusals = {str(code): {"description": words[code], "content": problem} for code in sorted(words)}
    made: dict[str, Any] = {"operationId": name, "summary": summary, "responses": {"200": answered, **refusals}}
    if body is not None:
        made["requestBody"] = {"required": False, "content": {"application/json": {"schema": body}}}
    return {**made, "security": [{"key": []}]} if keys else made


def _in_place(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose definitions stand where they are used: references would lead out of the place it is put in."""
    definitions = schema.pop("$defs", {})

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            return placed(definitions[name]) if name in definitions else {key: placed(part) for key, part in value.items()}
        return [placed(part) for part in value] if isinstance(value, list) else value

    found: dict[str, Any] = placed(schema)
    return found
