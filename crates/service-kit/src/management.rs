//! The management page: `/livez`, `/startupz`, `/readyz`, `/healthz/upstreams` and `/metrics`, on a port of their own.
