"""Asks a release whether it serves: what `helm test` runs, in the image itself.

Arguments: host:port of the gRPC Service, URL of the sidecar's Service with the notification path.
"""

import sys

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

server, notify_url = sys.argv[1:]
with grpc.insecure_channel(server) as channel:
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service="readiness"), timeout=30, wait_for_ready=True
    )
if answer.status != health_pb2.HealthCheckResponse.SERVING:
    sys.exit(f"{server} is not ready")

status = httpx.post(notify_url, content=b"{}", timeout=30).status_code
if not 400 <= status < 500:
    sys.exit(f"{notify_url} answered {status} to a notification without a signature")
sys.stdout.write("ready, and believes signatures only\n")
