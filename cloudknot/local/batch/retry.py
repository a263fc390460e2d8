"""Whether a failed attempt is tried again: AWS Batch's ``retryStrategy`` with ``evaluateOnExit``. Pure."""

from __future__ import annotations

from cloudknot.local.batch.records import Attempt, ExitRule, RetryStrategy


def retries(strategy: RetryStrategy, attempts: int, last: Attempt) -> bool:
    """Whether a job goes on after ``attempts`` attempts, of which ``last`` failed.

    The first rule that matches decides; when none does, the job is retried (AWS Batch API, "EvaluateOnExit").
    """
    if attempts >= strategy.attempts:
        return False
    for rule in strategy.rules:
        if _matches(rule, last):
            return rule.action == "RETRY"
    return True


def _matches(rule: ExitRule, attempt: Attempt) -> bool:
    exit_code = None if attempt.exit_code is None else str(attempt.exit_code)
    return (
        _glob(rule.on_exit_code, exit_code)
        and _glob(rule.on_reason, attempt.reason)
        and _glob(rule.on_status_reason, attempt.status_reason)
    )


def _glob(pattern: str | None, text: str | None) -> bool:
    if pattern is None or pattern == "*":
        return True
    if text is None:
        return False
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
