#!/usr/bin/env bash
# A SLURM cluster of one node, this machine, for tests: start, stop. Needs root and Debian's slurm-wlm and munge.
#   tests/slurm/cluster.sh start FOLDER     writes configuration, logs and state into FOLDER
#   tests/slurm/cluster.sh stop FOLDER
set -euo pipefail
action=$1 folder=$(realpath -m "$2") conf=/etc/slurm/slurm.conf

start() {
    if [ -e $conf ]; then
        echo "$conf exists: this machine belongs to a cluster already" >&2
        return 1
    fi
    mkdir -p "$folder"/{state,spool,munge}
    chmod 755 "$folder"
    # munge refuses keys and sockets in folders that others may write to
    chown munge: "$folder/munge"
    [ -s "$folder/munge/key" ] || (umask 077; head -c 1024 /dev/urandom > "$folder/munge/key"; chown munge: "$folder/munge/key")
    runuser -u munge -- /usr/sbin/munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
    local cores memory name
    cores=$(nproc) name=$(hostname -s)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.95)}' /proc/meminfo)
    cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# no control groups: tests run in containers, too
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=60
InactiveLimit=0
KillWait=2
MinJobAge=36000
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cores Boards=1 SocketsPerBoard=1 CoresPerSocket=$cores ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=cpu Nodes=$name Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES:4
CONF
    # jobs look for the configuration in its usual place
    mkdir -p /etc/slurm
    ln -s "$folder/slurm.conf" $conf
    slurmctld -c
    slurmd
    for _ in $(seq 60); do
        sinfo --noheader --format %t 2>/dev/null | grep -qE 'idle|mix|alloc' && return 0
        sleep 1
    done
    echo "the node did not come up; see $folder/slurmctld.log and $folder/slurmd.log" >&2
    return 1
}

stop() {
    scancel --user="$(id -un)" 2>/dev/null || true
    for daemon in slurmd slurmctld munge/; do
        file="$folder/${daemon%/}.pid"
        [ "$daemon" = munge/ ] && file="$folder/munge/pid"
        if [ -f "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
    done
    if [ "$(readlink $conf)" = "$folder/slurm.conf" ]; then rm $conf; fi
}

"$action"
