#!/bin/sh
# deb: remove, purge, or upgrade; rpm: how many versions are installed afterwards.
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ]; then
	rm -rf /etc/ssegateway /var/lib/ssegateway
	if getent passwd ssegateway >/dev/null; then userdel ssegateway; fi
	if getent group ssegateway >/dev/null; then groupdel ssegateway; fi
fi
