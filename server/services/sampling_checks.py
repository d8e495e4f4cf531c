"""Checks of how tokens are chosen that need the base: tokens with a bias, and the form of answers."""

from starlette.concurrency import run_in_threadpool

from server.services.context import Context
from steerzo_edge.data.rows import shown
from steerzo_edge.decoding.grammar import matcher_of
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import Fault, FormError, InputError


async def check_sampling(server: Context, sampling: Sampling, form_field: str) -> None:
    """Refuses what the base cannot do; compiles the form on a request thread, so that the device need not.

    Args:
        server: The server's parts.
        sampling: How tokens are chosen.
        form_field: The field of the request that the form is from.

    Raises:
        InputError: Naming the field.
    """
    if sampling.logit_bias:
        known = min(server.device.base.vocabulary, server.device.base.head.vocabulary)
        unknown = next((token for token, _ in sampling.logit_bias if token >= known), None)
        if unknown is not None:
            fault = Fault("logit_bias", "", str(unknown), f"the base has {known:,} tokens, from 0")
            raise InputError(str(fault), faults=(fault,))
    if sampling.form is not None:
        await run_in_threadpool(_check_form, server, sampling, form_field)


def _check_form(server: Context, sampling: Sampling, field: str) -> None:
    try:
        matcher_of(server.device.base, sampling.form, tokenizer=server.tokenizer)
    except FormError as error:
        assert sampling.form is not None
        fault = Fault(field, "", shown(sampling.form.text), str(error))
        raise FormError(str(error), faults=(fault,), hint=error.hint) from None
