"""What tenants may spend: the section `budgets` of the settings."""

import math
import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from atlas.contracts.ids import ID_PATTERN

EVERY_TENANT = "*"


def _something(limit: float | None) -> float | None:
    if limit is not None and not 0 < limit < math.inf:
        raise ValueError(
            f"a budget of {limit:g} makes no sense; "
            "give what may be spent, or leave it out for no limit"
        )
    return limit


def _tenant(name: str) -> str:
    if name != EVERY_TENANT and not re.fullmatch(ID_PATTERN, name):
        raise ValueError(
            f"{name!r} is no tenant; give 1 to 64 of the characters A-Z a-z 0-9 _ -, or '*'"
        )
    return name


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitSettings(_Section):
    """What may be spent in a period."""

    max_tokens: Annotated[int | None, AfterValidator(_something)] = Field(
        default=None, description="Input and output tokens."
    )
    max_usd: Annotated[float | None, AfterValidator(_something)] = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.max_tokens is None and self.max_usd is None:
            raise ValueError("limits nothing; give max_tokens, max_usd or both")
        return self


class TenantBudgetSettings(_Section):
    """The budgets of a tenant, by days and months in UTC; with neither, it may spend anything."""

    day: LimitSettings | None = None
    month: LimitSettings | None = None


class BudgetSettings(_Section):
    """What tenants may spend, all routers together; who is not named may spend anything."""

    tenants: dict[Annotated[str, AfterValidator(_tenant)], TenantBudgetSettings] = Field(
        default_factory=dict, description="By tenant; `*` is for each tenant that is not named."
    )

    def of(self, tenant: str) -> TenantBudgetSettings | None:
        """The budgets of a tenant, or None."""
        return self.tenants.get(tenant) or self.tenants.get(EVERY_TENANT)
