"""The database: payments, facts, notifications, private data and the event log.

payments.py      PaymentStore: what the service reads and writes
group_commit.py  calls at the same time share one
sessions.py      intent, lease, answer
batch.py         one transaction's worth of facts, decided in memory
facts.py         reads and writes of that batch
log.py           the event log: append and pages
private_data.py  encryption
    hints.py         NOTIFY and LISTEN: the log may have grown
rows.py          rows and JSON to the domain and back
tables.py        the tables
schema.py        the schema's version
database.py      engines, transactions, errors
"""

from antom_payments.store.batch import Applied, AppliedOutcome, Member
from antom_payments.store.database import PoolOptions
from antom_payments.store.log import EventLog, LogPage
from antom_payments.store.payments import PaymentStore, open_store
from antom_payments.store.private_data import DataCipher, new_data_key
from antom_payments.store.schema import migrate
from antom_payments.store.sessions import SessionClaim

__all__ = [
    "Applied",
    "AppliedOutcome",
    "DataCipher",
    "EventLog",
    "LogPage",
    "Member",
    "PaymentStore",
    "PoolOptions",
    "SessionClaim",
    "migrate",
    "new_data_key",
    "open_store",
]
