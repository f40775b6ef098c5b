"""The OpenFeature provider: the native evaluation behind OpenFeature's client.

    api.set_provider_and_wait(InprodProvider(environment="production", service="shop"))

Each evaluation also sets `flag.<key>` and `flag.<key>.rule` on the recording span of OpenTelemetry,
where that is installed, so that a guard finds both arms among plain traces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    ErrorCode,
    FlagNotFoundError,
    GeneralError,
    InvalidContextError,
    OpenFeatureError,
    ParseError,
    ProviderNotReadyError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from inprod.flags.evaluate import Problem
from inprod.sdk.agent import Happening, News
from inprod.sdk.client import Client, connect
from inprod.sdk.snapshot import Served
from inprod.sdk.wide import current

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.track import TrackingEventDetails
    from opentelemetry.trace import Span

try:
    from opentelemetry.trace import get_current_span as current_span
except ImportError:
    current_span = None

WAIT_S = 5.0
_NOWHERE: dict[str, object] = {}
_ERRORS: dict[Problem, Callable[[str], OpenFeatureError]] = {
    Problem.FLAG_NOT_FOUND: FlagNotFoundError,
    Problem.TARGETING_KEY_MISSING: TargetingKeyMissingError,
    Problem.INVALID_CONTEXT: InvalidContextError,
    Problem.TYPE_MISMATCH: TypeMismatchError,
    Problem.PARSE_ERROR: ParseError,
    Problem.PROVIDER_NOT_READY: ProviderNotReadyError,
    Problem.GENERAL: GeneralError,
}
_current_flags = current.get
Details = FlagResolutionDetails[Any]
Structure = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class InprodProvider(AbstractProvider):
    """Evaluates in this process. `client` None connects one of its own, closed at shutdown.

    `wait_s` is how long initialising waits for the first flags before it reports an error; the
    provider becomes ready by itself when they come later.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        environment: str | None = None,
        service: str | None = None,
        offline_file: str | PathLike[str] | None = None,
        cache_dir: str | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        super().__init__()
        self._owns_client = client is None
        self._client = client or connect(
            url=url, key=key, environment=environment, service=service,
            offline_file=offline_file, cache_dir=cache_dir,
        )  # fmt: skip
        self._wait_s = wait_s
        self._status: Happening | None = None  # None while initialising: the SDK says ready then
        self._client.listen(self._heard)

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="inprod")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Wait for the first flags; raises ProviderNotReadyError."""
        if not self._client.wait_ready(self._wait_s):
            self._status = Happening.ERROR
            raise ProviderNotReadyError(f"no flags within {self._wait_s:g} s")
        self._status = Happening.READY

    def shutdown(self) -> None:
        """Close the client if it is this provider's own."""
        if self._owns_client:
            self._client.close()

    def _heard(self, news: News) -> None:
        """Pass on what happens, from the SDK's thread."""
        details = ProviderEventDetails(message=news.message or None)
        match news.happening:
            case Happening.CHANGED:
                details = ProviderEventDetails(flags_changed=list(news.flags))
                self.emit_provider_configuration_changed(details)
            case Happening.READY if self._status not in (None, Happening.READY):
                self._status = Happening.READY
                self.emit_provider_ready(details)
            case Happening.STALE if self._status is Happening.READY:
                self._status = Happening.STALE
                self.emit_provider_stale(details)
            case Happening.ERROR if not self._client.is_ready and self._status is not None:
                details = ProviderEventDetails(
                    message=news.message, error_code=ErrorCode.PROVIDER_NOT_READY
                )
                self.emit_provider_error(details)
            case _:
                pass

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Return the value of a boolean flag; the common case without a further call."""
        if evaluation_context is not None:
            served = self._client.flags[flag_key](
                evaluation_context.attributes, evaluation_context.targeting_key
            )
            if served.kind is bool and served.resolution is not None:
                served.tick()
                flags = _current_flags()
                if flags is not None:
                    flags[flag_key] = served
                if current_span is not None and (span := current_span()).is_recording():
                    _mark(span, flag_key, served)
                return cast("Details", served.resolution)
        return self._resolve(bool, flag_key, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return the value of a string flag."""
        return self._resolve(str, flag_key, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Return the value of an integer flag."""
        return self._resolve(int, flag_key, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Return the value of a float flag; an integer flag's as a float."""
        return self._resolve(float, flag_key, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Structure,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Return the value of an object flag, a copy."""
        return self._resolve(dict, flag_key, evaluation_context)

    def _resolve(self, kind: type, key: str, context: EvaluationContext | None) -> Details:
        closure = self._client.flags[key]
        if context is None:
            served = closure(_NOWHERE, None)
        else:
            served = closure(context.attributes, context.targeting_key)
        resolution = cast("Details | None", served.resolution)
        if served.kind is not kind or resolution is None:
            resolution = _resolution(kind, served)
        served.tick()
        flags = _current_flags()
        if flags is not None:
            flags[key] = served
        if current_span is not None:
            span = current_span()
            if span.is_recording():
                _mark(span, key, served)
        return resolution

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record a wide event of that name, for guards and queries."""
        attributes: dict[str, Any] = {}
        if evaluation_context is not None:
            attributes.update(evaluation_context.attributes)
            if evaluation_context.targeting_key:
                attributes.setdefault("user.id", evaluation_context.targeting_key)
        if tracking_event_details is not None:
            attributes.update(tracking_event_details.attributes)
            if tracking_event_details.value is not None:
                attributes["value"] = tracking_event_details.value
        with self._client.event(tracking_event_name) as event:
            event.attributes.update(attributes)


def _mark(span: Span, key: str, served: Served) -> None:
    """Set which side of the flag this span saw."""
    span.set_attribute(f"flag.{key}", served.evaluation.variant)
    if served.evaluation.rule:
        span.set_attribute(f"flag.{key}.rule", served.evaluation.rule)


def _resolution(kind: type, served: Served) -> Details:
    """Return what OpenFeature gets; raises its typed errors. Kept where it can be shared."""
    evaluation = served.evaluation
    if evaluation.error is not None:
        served.tick()
        raise _ERRORS[evaluation.error](evaluation.message)
    value = evaluation.value
    is_shared = served.kind is kind
    if kind is dict and isinstance(value, (dict, list)):
        value = copy.deepcopy(cast("object", value))
    elif kind is float and served.kind is int:
        value = float(cast("int", value))
    elif not is_shared:
        text = f"`{served.key}` is `{type(value).__name__}`, not `{kind.__name__}`"
        raise TypeMismatchError(text)
    metadata: dict[str, bool | int | float | str] = {}
    if evaluation.rule:
        metadata["rule"] = evaluation.rule
    resolution: Details = FlagResolutionDetails(
        value=cast("Any", value),
        reason=Reason(evaluation.reason.value),
        variant=evaluation.variant,
        flag_metadata=MappingProxyType(metadata),
    )
    if is_shared:
        served.resolution = resolution
    return resolution
