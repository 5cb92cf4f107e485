#!/usr/bin/env bash
# Install SLURM and munge from Debian's packages, if that is possible here.
set -euo pipefail
command -v slurmctld >/dev/null && command -v munged >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "not root, or no apt-get" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
# Debian starts the daemons; the tests start their own
for daemon in slurmd slurmctld munge; do service "$daemon" stop >/dev/null 2>&1 || true; done
