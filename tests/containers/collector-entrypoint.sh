#!/bin/sh
# Its own options; those of the real collector are in "$@" and mean nothing here.
exec rotel-agent start --otlp-grpc-endpoint 0.0.0.0:4317 --otlp-http-endpoint 127.0.0.1:4318 \
    --exporter blackhole --debug-log traces --debug-log-verbosity detailed --pid-file /tmp/rotel.pid
