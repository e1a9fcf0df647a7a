#!/bin/sh
# deb: remove, or upgrade; rpm: how many versions are installed afterwards.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1" in
remove|0) systemctl disable --now ssegateway.service ssegateway.socket ;;
esac
