"""The sidecar as it is without group commit: one transaction for each notification.

`python -m bench.one_each`; all else is the product's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from antom_payments.__main__ import main
from antom_payments.store import Applied, Member, PaymentStore


async def apply(self: PaymentStore, members: Sequence[Member]) -> list[Applied]:
    """What the group commit does with a batch, for a caller alone."""
    return await self._commit(members)


if __name__ == "__main__":
    PaymentStore.apply = apply
    sys.argv[1:] = ["notifications"]
    main()
