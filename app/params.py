"""Typed and bounded query parameters; anything else is a 400 that names the parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from alerts.readers import Parameter
from app.errors import ApiError


def read_query(
    parameters: Iterable[Parameter] = (), given: MultiDict[str, str] | None = None
) -> dict[str, Any]:
    """Return the values by name, including defaults; other parameters are refused.

    ``given`` are by default those of the request's query.
    """
    given = request.args if given is None else given
    known = {parameter.name: parameter for parameter in parameters}
    for name, values in given.lists():
        if name not in known:
            # The name is untrusted, so it is repeated only if it looks like a parameter name.
            shown = name if re.fullmatch(r"[\w.-]{1,40}", name, re.ASCII) else "(not shown)"
            raise bad_parameter(shown, f"is not known here; known: {', '.join(known) or 'none'}")
        if len(values) > 1:
            raise bad_parameter(name, "is given more than once")
    return {name: _value(parameter, given.get(name)) for name, parameter in known.items()}


def bad_parameter(name: str, what: str) -> ApiError:
    """The error for an invalid parameter; ``what`` follows its name in the sentence."""
    return ApiError(400, "bad_parameter", f"Parameter {name} {what}.")


def _value(parameter: Parameter, text: str | None) -> Any:
    if text is None:
        if parameter.required:
            raise bad_parameter(parameter.name, f"is missing; it takes {parameter.reader.takes}")
        return parameter.default
    try:
        return parameter.reader.read(text)
    except ValueError:
        raise bad_parameter(parameter.name, f"takes {parameter.reader.takes}") from None
