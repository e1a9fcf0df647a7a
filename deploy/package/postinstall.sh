#!/bin/sh
# deb: configure [VERSION-BEFORE]; rpm: how many versions are installed now.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "$1-$2" in
configure-|1-) systemctl enable --now ssegateway.service ;;
# The former process drains: it has its clients come back, and notifies the backend of every end.
configure-*|2-) systemctl try-restart ssegateway.service ;;
esac
