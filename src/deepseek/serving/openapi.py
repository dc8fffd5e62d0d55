"""The description of a server for programs: OpenAPI 3.1, with a type for every field of every model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepseek import __version__
from deepseek.recipe.sections import ServeSection
from deepseek.serving.experiments.description import ANSWER, HEADER, experiment_paths
from deepseek.serving.rows.fields import FILE_KINDS

_PROBLEM = "Problem"
_WORDS = {
    400: "The body cannot be read.", 401: "A key is needed.", 403: "The key may not do this.", 404: "There is no such model.",
    408: "The body came too slowly.", 413: "The body, or the number of rows, is too large.", 415: "Bodies of this type cannot be read.",
    422: "No row can be answered; `errors` names each field, what was given and what is allowed.",
    429: "Too many rows wait; `Retry-After` says when to try again.", 504: "The deadline passed before the answer was there.",
    500: "What runs the model failed on these rows.",
    503: "Nothing is there to run the model, or to keep outcomes; `Retry-After` says when to try again.",
}  # fmt: skip


def document(models: Sequence[dict[str, Any]], settings: ServeSection, *, keys: bool, feedback: bool = False) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        models: Each model's description, as `/v1/models/NAME` gives it.
        settings: Sizes, for the descriptions.
        keys: Whether clients have to show a key.
        feedback: Whether outcomes are taken.
    """
    paths: dict[str, Any] = {
        "/healthz": {"get": _plain("health", "Whether the process is alive.", _json({"type": "object"}))},
        "/readyz": {"get": _plain("readiness", "Whether requests are welcome, and the versions of the models.", _json({"type": "object"}))},
        "/metrics": {"get": _plain("metrics", "Prometheus metrics.", {"text/plain": {"schema": {"type": "string"}}}, keys=keys)},
        "/v1/models": {"get": _plain("models", "The models that are served.", _json({"type": "object"}), keys=keys)},
    }
    schemas: dict[str, Any] = {_PROBLEM: _problem()}
    for model in models:
        name = model["name"]
        schemas |= _schemas(model, settings)
        answered = _json({"type": "object"})
        paths[f"/v1/models/{name}"] = {"get": _plain(f"describe-{name}", f"The fields and classes of {name}.", answered, keys=keys)}
        paths[f"/v1/models/{name}/predict"] = {"post": _predict(model, keys=keys)}
        paths |= experiment_paths(name, keys=keys)
        if feedback:
            schemas |= _feedback_schemas(model, settings)
            paths[f"/v1/models/{name}/feedback"] = {"post": _feedback(model, keys=keys)}
    value: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "deepseek serve",
            "version": __version__,
            "summary": ", ".join(f"{one['name']} {one['version']}" for one in models),
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if keys:
        value["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return value


def _schemas(model: dict[str, Any], settings: ServeSection) -> dict[str, Any]:
    name = model["name"]
    fields = {field["name"]: field["schema"] for field in model["fields"]}
    row = {
        "type": "object",
        "description": "One row. Every field is there; null where there is no value. Fields that the model does not know are ignored.",
        "properties": fields,
        "required": list(fields),
        "examples": [{field["name"]: field["example"] for field in model["fields"]}],
    }
    answer = model["answer"]
    head = {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "id": {"type": "string", "description": "The request's id, by which outcomes are joined."},
        "warnings": {"type": "array", "items": {"type": "string"}},
    }
    one = {
        "type": "object",
        "properties": {**head, **ANSWER, **answer["properties"]},
        "required": ["model", "version", "id", *answer["required"]],
    }
    error = {"type": "object", "properties": {"error": {"$ref": f"#/components/schemas/{_PROBLEM}"}}, "required": ["error"]}
    entry = {**answer, "properties": {**ANSWER, "version": {"type": "string"}, **answer["properties"]}}
    entries = {"type": "array", "items": {"anyOf": [entry, error]}, "description": "One entry a row, in the order of the rows."}
    many = {**head, "answers": entries, "failed": {"type": "integer"}}
    rows = {
        "type": "array",
        "items": {"$ref": f"#/components/schemas/{name}.Row"},
        "minItems": 1,
        "description": f"At most {min(settings.max_rows, settings.batching.max_queue):,} rows.",
    }
    return {
        f"{name}.Row": row,
        f"{name}.Rows": rows,
        f"{name}.Answer": one,
        f"{name}.Answers": {"type": "object", "properties": many, "required": ["model", "version", "id", "answers"]},
    }


def _predict(model: dict[str, Any], *, keys: bool) -> dict[str, Any]:
    name = model["name"]
    row, rows = ({"$ref": f"#/components/schemas/{name}.{what}"} for what in ("Row", "Rows"))
    wrapped = {"type": "object", "properties": {"rows": rows}, "required": ["rows"], "additionalProperties": False}
    either = [{"$ref": f"#/components/schemas/{name}.{what}"} for what in ("Answer", "Answers")]
    files = any(field["kind"] in FILE_KINDS for field in model["fields"])
    content: dict[str, Any] = {"application/json": {"schema": {"anyOf": [row, rows, wrapped]}}}
    if files:
        parts = {field["name"]: {} if field["kind"] in FILE_KINDS else field["schema"] for field in model["fields"]}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": parts, "required": list(parts)}}
    codes = [400, 404, 408, 413, 415, 422, 429, 500, 503, 504, *([401] if keys else [])]
    target = ", ".join(model["target"])
    made: dict[str, Any] = {
        "operationId": f"predict-{name}",
        "summary": f"Answer one row or many: {target}.",
        "description": "Also takes an Arrow IPC stream (application/vnd.apache.arrow.stream), and gives one where Accept asks for it.",
        "parameters": [
            {"name": "X-Timeout-Ms", "in": "header", "schema": {"type": "integer", "minimum": 1, "maximum": 86_400_000}},
            HEADER,
            {"name": "X-Request-Id", "in": "header", "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"}},
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "Every row is answered.", "content": _json({"anyOf": either})},
            "207": {"description": "Some rows are answered, others have an error.", "content": _json(either[1])},
            **{str(code): _failure(code) for code in sorted(codes)},
        },
    }
    return {**made, "security": [{"key": []}]} if keys else made


def _feedback_schemas(model: dict[str, Any], settings: ServeSection) -> dict[str, Any]:
    name = model["name"]
    many = {
        "type": "array", "items": {"$ref": f"#/components/schemas/{name}.Outcome"}, "minItems": 1, "maxItems": settings.max_rows,
        "description": "All are taken, or none.",
    }  # fmt: skip
    return {f"{name}.Outcome": model["feedback"], f"{name}.Outcomes": many}


def _feedback(model: dict[str, Any], *, keys: bool) -> dict[str, Any]:
    name = model["name"]
    either = [{"$ref": f"#/components/schemas/{name}.{what}"} for what in ("Outcome", "Outcomes")]
    accepted = {"type": "object", "properties": {"accepted": {"type": "integer"}}, "required": ["accepted"]}
    codes = [400, 404, 408, 413, 422, 503, *([401] if keys else [])]
    made: dict[str, Any] = {
        "operationId": f"feedback-{name}",
        "summary": f"Tell what became of answers: {', '.join(model['target'])}, or what they were worth.",
        "description": "Answered once the outcomes are on disk. An id that is not known is kept: its answer may still be on its way.",
        "requestBody": {"required": True, "content": _json({"anyOf": either})},
        "responses": {
            "202": {"description": "The outcomes are kept.", "content": _json(accepted)},
            **{str(code): _failure(code) for code in sorted(codes)},
        },
    }
    return {**made, "security": [{"key": []}]} if keys else made


def _plain(name: str, summary: str, content: dict[str, Any], *, keys: bool = False) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    made: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    if keys:
        responses["401"] = _failure(401)
        made["security"] = [{"key": []}]
    if name == "readiness":
        responses["503"] = {"description": "The server is stopping.", "content": _problems()}
    return made


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _problems() -> dict[str, Any]:
    return {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}}


def _failure(code: int) -> dict[str, Any]:
    return {"description": _WORDS[code], "content": _problems()}


def _problem() -> dict[str, Any]:
    text = {"type": ["string", "null"]}
    error = {"type": "object", "properties": {"row": {"type": "integer"}, "field": text, "given": text, "allowed": text, "message": text}}
    properties = {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}}
    more = {"hint": {"type": "string"}, "errors": {"type": "array", "items": error}, "request_id": {"type": "string"}}
    return {"type": "object", "properties": {**properties, **more}, "required": ["status", "detail"]}
