"""antom-payments: a gRPC payments microservice in front of Antom.

    CreateSession ─► servicer ─► service ─► store(intent) ─► Antom ─► store(state + event) ─┐
                                                                                  event log ├─► event_stream ─► StreamPaymentEvents
    POST notify ─► notifications: verify raw bytes ─► service.apply ─► store(state + event) ┘

The event log is the only thing that the processes share. Imports point down, as `pyproject.toml`
has it: __main__, demo, dev, app; grpc_api, notifications, emulator, client; service; event_stream;
antom, store; payment, session; money; errors.
"""  # noqa: E501 - the picture is as wide as it is
