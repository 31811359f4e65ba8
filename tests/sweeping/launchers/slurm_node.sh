#!/usr/bin/env bash
# A Slurm cluster of one node, this machine, in a directory of its own. Run it as root; needs Debian's slurm-wlm and munge.
#   slurm_node.sh start DIR    then: export SLURM_CONF=DIR/slurm.conf
#   slurm_node.sh stop DIR
set -euo pipefail
command=$1 folder=$(realpath -m "$2")

if [[ $command == stop ]]; then
    export SLURM_CONF=$folder/slurm.conf
    scancel --user="$(id -u)" 2>/dev/null || true   # jobs would outlive the cluster
    for _ in $(seq 40); do
        if [[ -z $(squeue --noheader 2>/dev/null) ]]; then break; fi
        sleep 0.5
    done
    for name in slurmctld slurmd munged; do
        if [[ -f $folder/$name.pid ]]; then kill "$(cat "$folder/$name.pid")" 2>/dev/null || true; fi
    done
    exit
fi

mkdir -p "$folder"/{state,spool}
chmod 755 "$folder"
host=$(hostname -s)
cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=${SLURM_TEST_PORT:-16817}
SlurmdPort=$((${SLURM_TEST_PORT:-16817} + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=1,batch_sched_delay=0
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=8000
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
mungekey --create --keyfile "$folder/munge.key" --bits 1024
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
export SLURM_CONF=$folder/slurm.conf
slurmctld -c
slurmd
for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then exit; fi
    sleep 0.5
done
echo "the node is not ready:" >&2
sinfo >&2
exit 1
