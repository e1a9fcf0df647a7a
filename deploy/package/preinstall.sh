#!/bin/sh
# The configuration belongs to the group, so both have to exist before it is unpacked.
set -e
getent group ssegateway >/dev/null || groupadd --system ssegateway
getent passwd ssegateway >/dev/null || useradd --system --gid ssegateway --home-dir /var/lib/ssegateway --no-create-home --shell /usr/sbin/nologin ssegateway
