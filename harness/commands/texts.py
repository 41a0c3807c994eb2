"""Makes ids of a workload's texts, with the tokenizer of the model."""

from __future__ import annotations

from dataclasses import replace

from harness.model.resolve import Model
from harness.model.tokenizer import Texts
from harness.workload.checks import check_context
from harness.workload.plan import Plan, least_context
from harness.workload.spec import Workload
from harness.workload.texts import encode_texts


def with_texts(plan: Plan, model: Model) -> Plan:
    """The plan with its workload's texts as ids of the model. Raises HarnessError if the longest does not fit the
    context of a candidate that is started."""
    if not plan.workload.texts:
        return plan
    workload = encoded(plan.workload, Texts(model.folder / "tokenizer.json", model.vocab_size))
    if (context := least_context(plan, model.name)) is not None:
        check_context(workload, context, model.name)
    return replace(plan, workload=workload)


def encoded(workload: Workload, texts: Texts) -> Workload:
    """The workload with its texts as ids of this tokenizer. Raises HarnessError if it can take none of them."""
    ids, facts = encode_texts(workload.written, texts.encode, workload.texts, workload.texts_sha256)
    return replace(workload, encoded=ids, text_facts=facts)
