"""The database: payments, facts, notifications, private data and the event log.

payments.py      PaymentStore: what the service reads and writes
group_commit.py  calls at the same time share one
intents.py       those at the same time share one, too
sessions.py      intent, lease, answer
batch.py         one transaction's worth of facts, decided in memory
facts.py         reads and writes of that batch
notifications.py the raw notifications, with what became of them
listing.py       lists of payments, page by page
log.py           the event log: append and pages
snapshot.py      payments in the order of their newest events
orphans.py       facts before their payment is known, to their end
inquiries.py     what Antom is still to be asked about
inquiry_leases.py  who asks it now
back_office.py   what operators do: the five below
quarantine.py    what was not understood: replayed or discarded
erasure.py       a payment's personal data
reinquire.py     payments to be asked about once more
audit.py         what operators did
keeping.py       Antom's answers while the database is away
retention.py     what is kept for how long, and its removal
private_data.py  encryption
data_key.py      the key of that encryption: compared at start, rotated
hints.py         NOTIFY and LISTEN: the log may have grown
rows.py          rows and JSON to the domain and back
tables.py        the tables
schema.py        the schema's version
database.py      transactions, repeated when the database asks for it
engines.py       pools and connections, with their settings
measures.py      what metrics tell of all that
outages.py       what the database's errors mean
"""

from antom_payments.store.audit import AuditRecord
from antom_payments.store.back_office import BackOffice
from antom_payments.store.data_key import KeyRotation, Rotated
from antom_payments.store.engines import PoolOptions
from antom_payments.store.erasure import Erased
from antom_payments.store.inquiry_leases import InquiryClaim, Rate
from antom_payments.store.keeping import kept
from antom_payments.store.log import EventLog, LogPage
from antom_payments.store.members import (
    UNADOPTED,
    Applied,
    AppliedOutcome,
    Confirmed,
    InquiryKind,
    Member,
    OrphanState,
    WantedInquiry,
)
from antom_payments.store.orphans import Orphan
from antom_payments.store.payments import PaymentStore, open_store
from antom_payments.store.private_data import DataCipher, new_data_key
from antom_payments.store.quarantine import StoredNotification
from antom_payments.store.retention import Kind, Oldest, Retention, Windows
from antom_payments.store.schema import migrate
from antom_payments.store.sessions import SessionClaim
from antom_payments.store.snapshot import PaymentsPage

__all__ = [
    "UNADOPTED",
    "Applied",
    "AppliedOutcome",
    "AuditRecord",
    "BackOffice",
    "Confirmed",
    "DataCipher",
    "Erased",
    "EventLog",
    "InquiryClaim",
    "InquiryKind",
    "KeyRotation",
    "Kind",
    "LogPage",
    "Member",
    "Oldest",
    "Orphan",
    "OrphanState",
    "PaymentStore",
    "PaymentsPage",
    "PoolOptions",
    "Rate",
    "Retention",
    "Rotated",
    "SessionClaim",
    "StoredNotification",
    "WantedInquiry",
    "Windows",
    "kept",
    "migrate",
    "new_data_key",
    "open_store",
]
