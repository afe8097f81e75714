"""Query parameters: typed, bounded, and 400 with the parameter's name for anything else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flask import request

from alerts.readers import Parameter
from app.errors import ApiError


def read_query(parameters: Iterable[Parameter] = ()) -> dict[str, Any]:
    """The request's values by name, defaults included; no other parameter is known."""
    known = {parameter.name: parameter for parameter in parameters}
    for name, values in request.args.lists():
        if name not in known:
            # The name comes from outside: only what could be one is repeated.
            shown = name if re.fullmatch(r"[\w.-]{1,40}", name, re.ASCII) else "(not shown)"
            raise bad_parameter(shown, f"is not known here; known: {', '.join(known) or 'none'}")
        if len(values) > 1:
            raise bad_parameter(name, "is given more than once")
    return {name: _value(parameter) for name, parameter in known.items()}


def bad_parameter(name: str, what: str) -> ApiError:
    """A parameter that is not as it should be; ``what`` goes behind its name."""
    return ApiError(400, "bad_parameter", f"Parameter {name} {what}.")


def _value(parameter: Parameter) -> Any:
    text = request.args.get(parameter.name)
    if text is None:
        if parameter.required:
            raise bad_parameter(parameter.name, f"is missing; it takes {parameter.reader.takes}")
        return parameter.default
    try:
        return parameter.reader.read(text)
    except ValueError:
        raise bad_parameter(parameter.name, f"takes {parameter.reader.takes}") from None
